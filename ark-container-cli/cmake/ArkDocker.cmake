#[[
ark_add_docker(NAME
  ORGANIZATION GUID          # organization of the repository
  REPOSITORY   NAME          # name of the repository, such as catalog/extract-video
  [DOCKERFILE  FILE]         # default: Dockerfile
  [TARGETS     TARGET...]    # targets that are built first; their files are copied into the context
  [FILES       FILE...]      # files and folders that are copied into the context
  [TAGS        TAG...]       # default: the output of git describe
  [BUILD_ARGS  KEY=VALUE...]
  [PLATFORMS   OS/ARCH...]
  [REGISTRY    LOCATION]     # default: the setting of the tool
  [CREATE])                  # create the repository if it does not exist

Adds the targets NAME-docker (log in, build, push) and NAME-docker-image (build only). The target
ark-docker builds and pushes all images of a project. Documentation: docs/cmake.md.
]]

include_guard(GLOBAL)
cmake_policy(VERSION 3.22)

set(ARK_DOCKER_BUILDER "" CACHE STRING
    "Builder of images: docker, podman or buildah; the default is the first that works")
set_property(CACHE ARK_DOCKER_BUILDER PROPERTY STRINGS "" docker podman buildah)
set(ARK_DOCKER_BUILD_OPTIONS "" CACHE STRING "List of further options for the builder")
set(ARK_DOCKER_PLATFORM "" CACHE STRING
    "OS/ARCH of images without PLATFORMS; the default is that of a cross build, or else of the builder")
set(ARK_REGISTRY "" CACHE STRING
    "Registry of images without REGISTRY: ecr://HOST/STAGE or local:[DIR]; the default is the setting of the tool")
option(ARK_DOCKER_STREAM
       "Under Ninja, show the output of builders immediately, and build one image at a time" OFF)

include("${CMAKE_CURRENT_LIST_DIR}/ArkDockerArguments.cmake")

function(ark_add_docker name)
  cmake_parse_arguments(
    PARSE_ARGV 1 ARG "CREATE" "ORGANIZATION;REPOSITORY;DOCKERFILE;REGISTRY"
    "TARGETS;FILES;TAGS;BUILD_ARGS;PLATFORMS")
  _ark_docker_check_arguments()
  _ark_docker_find_dockerfile()
  _ark_docker_collect_context()
  _ark_docker_choose_platforms()
  _ark_docker_describe_commit()

  set(scripts "${CMAKE_CURRENT_FUNCTION_LIST_DIR}")
  get_property(is_multi_config GLOBAL PROPERTY GENERATOR_IS_MULTI_CONFIG)
  set(results "${CMAKE_CURRENT_BINARY_DIR}")
  set(work "${CMAKE_CURRENT_BINARY_DIR}/${name}-docker")
  if(is_multi_config)
    string(APPEND results "/$<CONFIG>")
    string(APPEND work "/$<CONFIG>")
  endif()
  set(surroundings "${CMAKE_BINARY_DIR}/ark-docker")
  set(terminal)
  if(ARK_DOCKER_STREAM)
    set(terminal USES_TERMINAL)
  endif()

  # Files of settings are inputs of the build, and are written only if a setting changes.
  set(settings)
  _ark_docker_append_setting(NAME name)
  _ark_docker_append_setting(WORK work)
  _ark_docker_append_setting(DOCKERFILE dockerfile)
  _ark_docker_append_setting(CONTEXT_FILES context_files)
  _ark_docker_append_setting(CONTEXT_NAMES context_names)
  _ark_docker_append_setting(BUILD_ARGS ARG_BUILD_ARGS)
  _ark_docker_append_setting(PLATFORMS ARG_PLATFORMS)
  _ark_docker_append_setting(BUILDER ARK_DOCKER_BUILDER)
  _ark_docker_append_setting(BUILD_OPTIONS ARK_DOCKER_BUILD_OPTIONS)
  file(GENERATE OUTPUT "${work}/image.cmake" CONTENT "${settings}")

  set(settings)
  _ark_docker_append_setting(NAME name)
  _ark_docker_append_setting(WORK work)
  _ark_docker_append_setting(TOOL ARK_CONTAINER_TOOL)
  _ark_docker_append_setting(ORGANIZATION ARG_ORGANIZATION)
  _ark_docker_append_setting(REPOSITORY ARG_REPOSITORY)
  _ark_docker_append_setting(REGISTRY ARG_REGISTRY)
  _ark_docker_append_setting(TAGS ARG_TAGS)
  _ark_docker_append_setting(COMMIT_FILE commit_file)
  _ark_docker_append_setting(CREATE ARG_CREATE)
  _ark_docker_append_setting(RESULTS results)
  _ark_docker_append_setting(BUILD_FOLDER CMAKE_BINARY_DIR)
  file(GENERATE OUTPUT "${work}/push.cmake" CONTENT "${settings}")

  if(NOT TARGET ark-docker-surroundings)
    add_custom_target(
      ark-docker-surroundings
      COMMAND "${CMAKE_COMMAND}" -D "FOLDER=${surroundings}" -P "${scripts}/ArkDockerSurroundings.cmake"
      BYPRODUCTS "${surroundings}/builder" "${surroundings}/destination"
      COMMENT "Looking up the builder and the registry"
      VERBATIM)
  endif()

  # A script that fails prints the reason and does not write its output file, so that compare_files fails too.
  # message(FATAL_ERROR) would print more lines around the reason, and CMake before 3.29 has no exit codes for
  # scripts.
  set(or_fail COMMAND "${CMAKE_COMMAND}" -E compare_files)
  add_custom_command(
    OUTPUT "${work}/image.done"
    BYPRODUCTS "${work}/built.cmake"
    COMMAND "${CMAKE_COMMAND}" -D "SETTINGS=${work}/image.cmake" -P "${scripts}/ArkDockerImage.cmake"
    ${or_fail} "${work}/image.done" "${work}/image.done"
    DEPENDS "${work}/image.cmake" "${surroundings}/builder" "${dockerfile}" ${context_dependencies}
    COMMENT "Building the image ${name}"
    VERBATIM ${terminal})
  add_custom_target(${name}-docker-image DEPENDS "${work}/image.done")
  add_dependencies(${name}-docker-image ark-docker-surroundings)

  add_custom_command(
    OUTPUT "${results}/${name}.image" "${results}/${name}.json"
    COMMAND "${CMAKE_COMMAND}" -D "SETTINGS=${work}/push.cmake" -P "${scripts}/ArkDockerPush.cmake"
    ${or_fail} "${work}/push.done" "${work}/push.done"
    DEPENDS "${work}/push.cmake" "${surroundings}/destination" "${work}/built.cmake" ${commit_file}
    COMMENT "Pushing the image ${name}"
    VERBATIM ${terminal})
  add_custom_target(${name}-docker DEPENDS "${results}/${name}.image" "${results}/${name}.json")
  add_dependencies(${name}-docker ${name}-docker-image ark-docker-surroundings ${commit_target})

  if(NOT TARGET ark-docker)
    add_custom_target(ark-docker)
  endif()
  add_dependencies(ark-docker ${name}-docker)
endfunction()
