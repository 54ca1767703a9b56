# Writes the output of git describe for WORKTREE to FILE, converted to a tag. GIT is the path of git.

cmake_minimum_required(VERSION 3.22)
include("${CMAKE_CURRENT_LIST_DIR}/ArkDockerScript.cmake")

# git must not lock the work tree while the user works in it.
set(ENV{GIT_OPTIONAL_LOCKS} 0)
execute_process(
  COMMAND "${GIT}" -C "${WORKTREE}" describe --tags --always --dirty
  OUTPUT_VARIABLE tag ERROR_VARIABLE problem RESULT_VARIABLE code
  OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_STRIP_TRAILING_WHITESPACE)
if(NOT code EQUAL 0)
  file(REMOVE "${FILE}")
  # The user info of a URL may contain a password.
  string(REGEX REPLACE "://[^/@ \n]+@" "://***@" problem "${problem}")
  set(remedy "or make this command work: git -C '${WORKTREE}' describe --tags --always --dirty")
  if(problem MATCHES "git config [^\n]+")
    # The message of git has the command.
    set(remedy "or trust the folder: ${CMAKE_MATCH_0}")
  endif()
  string(REGEX REPLACE "\n.*" "" problem "${problem}")
  print_failure("git cannot describe the commit for the default tag: ${problem}"
               "give TAGS to ark_add_docker, ${remedy}")
  return()
endif()
string(REGEX REPLACE "[^A-Za-z0-9_.-]" "-" tag "${tag}")
string(REGEX REPLACE "^[.-]+" "" tag "${tag}")
string(SUBSTRING "${tag}" 0 128 tag)
# A git tag named latest would not identify an image.
if(tag STREQUAL latest)
  set(tag commit-latest)
endif()
get_filename_component(folder "${FILE}" DIRECTORY)
make_writable_folder("${folder}")
write_if_different("${FILE}" "${tag}")
