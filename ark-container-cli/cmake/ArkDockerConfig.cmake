# Configuration file of find_package(ArkDocker). `ark-catalog-container-tool --cmake-dir` prints the folder for
# -DArkDocker_DIR=…

if(CMAKE_VERSION VERSION_LESS 3.22)
  set(ArkDocker_FOUND FALSE)
  set(ArkDocker_NOT_FOUND_MESSAGE "ArkDocker requires CMake 3.22 or newer, and this is ${CMAKE_VERSION}")
  return()
endif()

# --cmake-dir writes this file, with the path of the program that printed the folder.
include("${CMAKE_CURRENT_LIST_DIR}/ArkDockerTool.cmake" OPTIONAL)
if(NOT ARK_CONTAINER_TOOL AND EXISTS "${_ark_docker_tool}")
  set(ARK_CONTAINER_TOOL "${_ark_docker_tool}" CACHE FILEPATH "The ark-catalog-container-tool that uploads images" FORCE)
endif()
# Otherwise the program that was installed with this file, or else the program in PATH. The program runs on the build
# machine, so the root folder of a cross build is not searched.
get_filename_component(_ark_docker_prefix "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)
find_program(
  ARK_CONTAINER_TOOL ark-catalog-container-tool
  HINTS "${_ark_docker_prefix}/bin"
  DOC "The ark-catalog-container-tool that uploads images"
  NO_CMAKE_FIND_ROOT_PATH)
unset(_ark_docker_tool)
unset(_ark_docker_prefix)

if(NOT ARK_CONTAINER_TOOL)
  set(ArkDocker_FOUND FALSE)
  set(ArkDocker_NOT_FOUND_MESSAGE
      "ark-catalog-container-tool is not in PATH; set its path: cmake -DARK_CONTAINER_TOOL=FILE")
  return()
endif()

include("${CMAKE_CURRENT_LIST_DIR}/ArkDocker.cmake")
