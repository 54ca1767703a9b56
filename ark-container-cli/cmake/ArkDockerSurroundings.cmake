# Writes the inputs from outside the project to FOLDER: `builder`, the builder of the environment, and `destination`,
# the registry settings of the tool.

cmake_minimum_required(VERSION 3.22)
include("${CMAKE_CURRENT_LIST_DIR}/ArkDockerScript.cmake")

make_writable_folder("${FOLDER}")
write_if_different("${FOLDER}/builder" "$ENV{ARK_DOCKER_BUILDER}\n")

set(config "$ENV{XDG_CONFIG_HOME}")
if(NOT IS_ABSOLUTE "${config}")
  set(config "$ENV{HOME}/.config")
endif()
set(hash none)
if(EXISTS "${config}/ark/container.toml")
  file(SHA256 "${config}/ark/container.toml" hash)
endif()
write_if_different("${FOLDER}/destination" "$ENV{ARK_REGISTRY}\n${hash}\n")
