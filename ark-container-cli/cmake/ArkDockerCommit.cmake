# Writes to FILE what git describes the commit of WORKTREE as, made into a tag. GIT is the program.

cmake_minimum_required(VERSION 3.22)
include("${CMAKE_CURRENT_LIST_DIR}/ArkDockerScript.cmake")

# Whoever works in the work tree meanwhile finds it unlocked.
set(ENV{GIT_OPTIONAL_LOCKS} 0)
execute_process(
  COMMAND "${GIT}" -C "${WORKTREE}" describe --tags --always --dirty
  OUTPUT_VARIABLE tag ERROR_VARIABLE problem RESULT_VARIABLE code
  OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_STRIP_TRAILING_WHITESPACE)
if(NOT code EQUAL 0)
  file(REMOVE "${FILE}")
  # The user info of a URL may be a password.
  string(REGEX REPLACE "://[^/@ \n]+@" "://***@" problem "${problem}")
  set(remedy "or make this command work: git -C '${WORKTREE}' describe --tags --always --dirty")
  if(problem MATCHES "git config [^\n]+")
    # git says itself what to type.
    set(remedy "or trust the folder: ${CMAKE_MATCH_0}")
  endif()
  string(REGEX REPLACE "\n.*" "" problem "${problem}")
  tell_failure("git cannot describe the commit to tag images with: ${problem}"
               "give TAGS to ark_add_docker, ${remedy}")
  return()
endif()
string(REGEX REPLACE "[^A-Za-z0-9_.-]" "-" tag "${tag}")
string(REGEX REPLACE "^[.-]+" "" tag "${tag}")
string(SUBSTRING "${tag}" 0 128 tag)
# A tag of git's may be called so too, and would not say what is in the image.
if(tag STREQUAL latest)
  set(tag commit-latest)
endif()
get_filename_component(folder "${FILE}" DIRECTORY)
make_writable_folder("${folder}")
write_if_different("${FILE}" "${tag}")
