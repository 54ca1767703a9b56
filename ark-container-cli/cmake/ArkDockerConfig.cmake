# What find_package(ArkDocker) reads. `ark-catalog-container-tool --cmake-dir` prints the folder to give
# as -DArkDocker_DIR=…

if(CMAKE_VERSION VERSION_LESS 3.22)
  set(ArkDocker_FOUND FALSE)
  set(ArkDocker_NOT_FOUND_MESSAGE "it takes CMake 3.22 or newer, and this is ${CMAKE_VERSION}")
  return()
endif()

# --cmake-dir puts beside this file which tool printed the folder.
include("${CMAKE_CURRENT_LIST_DIR}/ArkDockerTool.cmake" OPTIONAL)
get_filename_component(_ark_docker_prefix "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)
# A tool of the machine that builds: never from the root folder of a cross build.
find_program(
  ARK_CONTAINER_TOOL ark-catalog-container-tool
  HINTS ${ARK_DOCKER_TOOL_HINT} "${_ark_docker_prefix}/bin"
  DOC "The ark-catalog-container-tool that uploads images"
  NO_CMAKE_FIND_ROOT_PATH)
unset(_ark_docker_prefix)

if(NOT ARK_CONTAINER_TOOL)
  set(ArkDocker_FOUND FALSE)
  set(ArkDocker_NOT_FOUND_MESSAGE
      "ark-catalog-container-tool is not in PATH; say where it is: cmake -DARK_CONTAINER_TOOL=FILE")
  return()
endif()

include("${CMAKE_CURRENT_LIST_DIR}/ArkDocker.cmake")
