# Pushes the image of the file SETTINGS. Writes push.done at the end, after the URL by digest and the JSON result of
# the tool.

cmake_minimum_required(VERSION 3.22)
include("${CMAKE_CURRENT_LIST_DIR}/ArkDockerScript.cmake")
include("${SETTINGS}")

make_writable_folder("${WORK}")
make_writable_folder("${RESULTS}")
file(REMOVE "${WORK}/push.done")
include("${WORK}/built.cmake")

# A prune of the builder's images deletes the image, but changes no file of the build.
if(source MATCHES "^docker-daemon:(.*)$")
  execute_process(COMMAND docker image inspect "${CMAKE_MATCH_1}" OUTPUT_QUIET ERROR_QUIET RESULT_VARIABLE code)
elseif(source MATCHES "^podman:(.*)$")
  execute_process(COMMAND podman image exists "${CMAKE_MATCH_1}" OUTPUT_QUIET ERROR_QUIET RESULT_VARIABLE code)
else()
  set(code 0)
endif()
if(NOT code EQUAL 0)
  execute_process(
    COMMAND "${CMAKE_COMMAND}" -D "SETTINGS=${WORK}/image.cmake" -P "${CMAKE_CURRENT_LIST_DIR}/ArkDockerImage.cmake")
  if(NOT EXISTS "${WORK}/image.done")
    return()
  endif()
  include("${WORK}/built.cmake")
endif()

if(NOT TAGS)
  file(READ "${COMMIT_FILE}" TAGS)
endif()
list(POP_FRONT TAGS tag)
set(options --organization "${ORGANIZATION}" --login-scope organization)
if(REGISTRY)
  list(APPEND options --registry "${REGISTRY}")
endif()
set(push --push "${REPOSITORY}:${tag}" --from "${source}" --metadata-file "${WORK}/pushed.json" ${options})
if(CREATE)
  list(APPEND push --create)
endif()
if(source MATCHES "^oci")
  list(APPEND push --all-platforms)
endif()
execute_process(
  COMMAND "${TOOL}" ${push}
  OUTPUT_VARIABLE url RESULT_VARIABLE code OUTPUT_STRIP_TRAILING_WHITESPACE)
if(NOT code MATCHES "^[0-9]+$")
  print_failure("the tool ${TOOL} cannot be run: ${code}" "cmake -DARK_CONTAINER_TOOL=FILE '${BUILD_FOLDER}'")
  return()
elseif(NOT code EQUAL 0)
  # The tool has printed the reason.
  return()
endif()
string(REGEX REPLACE "^.*@" "" digest "${url}")
foreach(tag IN LISTS TAGS)
  execute_process(
    COMMAND "${TOOL}" --copy "${REPOSITORY}@${digest}" --to "${REPOSITORY}:${tag}" ${options}
    OUTPUT_QUIET RESULT_VARIABLE code)
  if(NOT code EQUAL 0)
    return()
  endif()
endforeach()
file(RENAME "${WORK}/pushed.json" "${RESULTS}/${NAME}.json")
write_whole("${RESULTS}/${NAME}.image" "${url}\n")
file(WRITE "${WORK}/push.done" "")
