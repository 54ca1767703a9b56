# Builds one image; SETTINGS is the file that says which. In the end it writes image.done, and in
# built.cmake where the image is, which changes only when the image does.

cmake_minimum_required(VERSION 3.22)
include("${CMAKE_CURRENT_LIST_DIR}/ArkDockerScript.cmake")
include("${CMAKE_CURRENT_LIST_DIR}/ArkDockerContext.cmake")
include("${CMAKE_CURRENT_LIST_DIR}/ArkDockerBuilders.cmake")
include("${SETTINGS}")

file(REMOVE "${WORK}/image.done")
choose_builder()
if(builder_problem)
  fail("the image ${NAME} cannot be built: ${builder_problem}" "${builder_help}")
endif()
make_context()
if(context_problem)
  fail("the context of the image ${NAME} cannot be made: ${context_problem}"
       "see TARGETS and FILES of ark_add_docker(${NAME})")
endif()
list(LENGTH PLATFORMS count)
if(count GREATER 1 AND builder STREQUAL docker)
  set_docker_build()
  if(NOT "buildx" IN_LIST docker_build)
    fail("docker without BuildKit builds the image ${NAME} for one platform only, not for ${PLATFORMS}"
         "install docker's buildx, or choose another builder: export ARK_DOCKER_BUILDER=podman")
  endif()
endif()
build_image()
if(problem)
  fail("${builder} could not build the image ${NAME}; it says why above" "to see it alone: ${problem}")
endif()
write_if_different("${WORK}/built.cmake" "set(source [=====[${source}]=====])\nset(identity ${identity})\n")
file(WRITE "${WORK}/image.done" "")
