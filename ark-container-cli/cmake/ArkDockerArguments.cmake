# What ark_add_docker is given: checked, and made into what its commands need.
#
# These are macros: they read the function's ARG_… and leave their results beside them.

# Ends the configuration. Lines that begin with a space are printed as they are.
function(_ark_docker_error text help)
  message(FATAL_ERROR " error: ark_add_docker(${name}): ${text}\n   help: ${help}")
endfunction()

macro(_ark_docker_check_arguments)
  if(NOT name MATCHES "^[A-Za-z0-9_.+-]+$")
    _ark_docker_error("\"${name}\" cannot be part of a target's name"
                      "letters, digits, '_', '.', '+' and '-', as ark-extract-catalog-video")
  endif()
  if(TARGET ${name}-docker)
    get_target_property(other ${name}-docker SOURCE_DIR)
    _ark_docker_error("there is such an image already, from ${other}" "give each image a name of its own")
  endif()
  if(ARG_UNPARSED_ARGUMENTS)
    list(GET ARG_UNPARSED_ARGUMENTS 0 unknown)
    _ark_docker_error("\"${unknown}\" is no keyword of it"
                      "the keywords: ORGANIZATION, REPOSITORY, DOCKERFILE, TARGETS, FILES, TAGS, BUILD_ARGS, PLATFORMS, REGISTRY, CREATE")
  endif()
  if(ARG_KEYWORDS_MISSING_VALUES)
    list(GET ARG_KEYWORDS_MISSING_VALUES 0 keyword)
    # An empty list of files is no mistake, as where a variable has none.
    if(keyword MATCHES "^(ORGANIZATION|REPOSITORY|DOCKERFILE|REGISTRY)$")
      _ark_docker_error("${keyword} has no value" "give one behind ${keyword}, or leave it out")
    endif()
  endif()
  _ark_docker_check_repository()
  _ark_docker_check_tags()
  foreach(platform IN LISTS ARG_PLATFORMS)
    if(NOT platform MATCHES "^[a-z0-9]+/[a-z0-9_]+(/[a-z0-9.]+)?$")
      _ark_docker_error("\"${platform}\" is no platform" "as PLATFORMS linux/amd64 linux/arm64")
    endif()
  endforeach()
  foreach(argument IN LISTS ARG_BUILD_ARGS)
    if(NOT argument MATCHES "^[A-Za-z_][A-Za-z0-9_]*=")
      _ark_docker_error("the build argument \"${argument}\" is not of the form KEY=VALUE"
                        "as BUILD_ARGS VERSION=1.2")
    endif()
  endforeach()
  if(NOT ARK_DOCKER_BUILDER MATCHES "^(docker|podman|buildah|)$")
    _ark_docker_error("ARK_DOCKER_BUILDER is \"${ARK_DOCKER_BUILDER}\", which is no builder"
                      "docker, podman or buildah, or empty for the first that works: cmake -DARK_DOCKER_BUILDER= .")
  endif()
  if(EXISTS "${CMAKE_CURRENT_BINARY_DIR}/${name}-docker" AND NOT IS_DIRECTORY "${CMAKE_CURRENT_BINARY_DIR}/${name}-docker")
    _ark_docker_error("${CMAKE_CURRENT_BINARY_DIR}/${name}-docker is in the way: it is to be a folder" "remove it, or build in another folder: cmake -B DIR")
  endif()
  if(NOT EXISTS "${ARK_CONTAINER_TOOL}")
    _ark_docker_error("the tool ${ARK_CONTAINER_TOOL} does not exist" "cmake -DARK_CONTAINER_TOOL=FILE .")
  endif()
endmacro()

macro(_ark_docker_check_repository)
  foreach(keyword IN ITEMS ORGANIZATION REPOSITORY)
    if(NOT DEFINED ARG_${keyword})
      _ark_docker_error("${keyword} is missing"
                        "ark_add_docker(${name} ORGANIZATION GUID REPOSITORY catalog/extract-video)")
    endif()
  endforeach()
  set(hex "[0-9A-Fa-f]")
  string(REPEAT "${hex}" 4 four)
  if(NOT ARG_ORGANIZATION MATCHES "^${four}${four}-${four}-${four}-${four}-${four}${four}${four}$")
    _ark_docker_error("\"${ARG_ORGANIZATION}\" is no organization's GUID: it has 32 hexadecimal digits as 8-4-4-4-12"
                      "your organizations: ${ARK_CONTAINER_TOOL} --whoami")
  endif()
  set(part "[a-z0-9]+((\\.|_|__|-+)[a-z0-9]+)*")
  if(NOT ARG_REPOSITORY MATCHES "^${part}(/${part})*$")
    _ark_docker_error("\"${ARG_REPOSITORY}\" is no repository's name"
                      "lower-case words with slashes between, as catalog/extract-video; tags go behind TAGS")
  endif()
  if(NOT DEFINED ARG_REGISTRY)
    set(ARG_REGISTRY "${ARK_REGISTRY}")
  endif()
endmacro()

macro(_ark_docker_check_tags)
  foreach(tag IN LISTS ARG_TAGS)
    string(LENGTH "${tag}" length)
    # What is a generator expression yet is the tool's to check.
    if(NOT tag MATCHES "\\$<" AND (length GREATER 128 OR NOT tag MATCHES "^[A-Za-z0-9_][A-Za-z0-9_.-]*$"))
      _ark_docker_error("\"${tag}\" is no tag" "up to 128 letters, digits, '_', '.' and '-', as v1.2")
    endif()
  endforeach()
  list(REMOVE_DUPLICATES ARG_TAGS)
  if("${ARG_TAGS}" STREQUAL latest)
    _ark_docker_error("the tag latest alone does not say what is in an image"
                      "give another beside it, as TAGS v1.2 latest, or leave TAGS out for what git describes the commit as")
  endif()
endmacro()

# Sets `dockerfile`.
macro(_ark_docker_find_dockerfile)
  if(NOT DEFINED ARG_DOCKERFILE)
    set(ARG_DOCKERFILE Dockerfile)
  endif()
  _ark_docker_locate(ARG_DOCKERFILE)
  if(NOT located)
    _ark_docker_error("the Dockerfile ${CMAKE_CURRENT_SOURCE_DIR}/${ARG_DOCKERFILE} does not exist"
                      "create it, or name another: DOCKERFILE FILE")
  endif()
  set(dockerfile "${located}")
endmacro()

# Sets `context_files`, `context_names` beside them, and `context_dependencies`.
macro(_ark_docker_collect_context)
  set(context_files)
  set(context_names)
  set(context_dependencies)
  foreach(target IN LISTS ARG_TARGETS)
    if(NOT TARGET ${target})
      _ark_docker_error("there is no target ${target}"
                        "TARGETS takes targets that are defined before; files that exist go behind FILES")
    endif()
    get_target_property(type ${target} TYPE)
    list(APPEND context_dependencies ${target})
    if(type MATCHES "^(EXECUTABLE|STATIC_LIBRARY|SHARED_LIBRARY|MODULE_LIBRARY)$")
      list(APPEND context_dependencies "$<TARGET_FILE:${target}>")
      list(APPEND context_files "$<TARGET_FILE:${target}>")
      list(APPEND context_names "$<TARGET_FILE_NAME:${target}>")
    elseif(NOT type STREQUAL UTILITY)
      # A custom target is built first, and the files that it makes are named behind FILES.
      _ark_docker_error("the target ${target} has no file"
                        "TARGETS takes executables, libraries and custom targets")
    endif()
  endforeach()
  foreach(file IN LISTS ARG_FILES)
    _ark_docker_locate(file)
    if(NOT located)
      _ark_docker_error("the file ${file} is neither in ${CMAKE_CURRENT_SOURCE_DIR} nor made by a custom command of this folder"
                        "correct its name behind FILES")
    endif()
    set(files "${located}")
    set(base "${located_in}")
    if(IS_DIRECTORY "${located}")
      file(GLOB_RECURSE files LIST_DIRECTORIES false CONFIGURE_DEPENDS "${located}/*")
      if(NOT base)
        get_filename_component(base "${located}" DIRECTORY)
      endif()
    endif()
    foreach(file IN LISTS files)
      if(base)
        file(RELATIVE_PATH inside "${base}" "${file}")
      else()
        get_filename_component(inside "${file}" NAME)
      endif()
      list(APPEND context_files "${file}")
      list(APPEND context_names "${inside}")
      list(APPEND context_dependencies "${file}")
    endforeach()
  endforeach()
endmacro()

# Sets `located` to where the file in `variable` is, or will be when it is made, and `located_in` to the folder whose
# file it is: the source folder or the one that is built in. Both are empty where there is none.
macro(_ark_docker_locate variable)
  set(located)
  set(located_in)
  foreach(folder IN ITEMS "${CMAKE_CURRENT_SOURCE_DIR}" "${CMAKE_CURRENT_BINARY_DIR}")
    get_filename_component(path "${${variable}}" ABSOLUTE BASE_DIR "${folder}")
    get_source_file_property(is_generated "${path}" GENERATED)
    if(NOT located AND (EXISTS "${path}" OR is_generated))
      set(located "${path}")
    endif()
  endforeach()
  # Where one folder is in the other, the inner one counts.
  foreach(folder IN ITEMS "${CMAKE_CURRENT_SOURCE_DIR}" "${CMAKE_CURRENT_BINARY_DIR}")
    string(FIND "${located}/" "${folder}/" position)
    string(LENGTH "${folder}" length)
    string(LENGTH "${located_in}" longest)
    if(position EQUAL 0 AND length GREATER longest)
      set(located_in "${folder}")
    endif()
  endforeach()
endmacro()

# Sets ARG_PLATFORMS where it is left open: a cross build knows what its programs run on.
macro(_ark_docker_choose_platforms)
  if(NOT ARG_PLATFORMS)
    set(ARG_PLATFORMS "${ARK_DOCKER_PLATFORM}")
    if(NOT ARG_PLATFORMS AND CMAKE_CROSSCOMPILING AND CMAKE_SYSTEM_NAME STREQUAL Linux)
      set(processors x86_64 AMD64 aarch64 arm64 armv7l armv7-a ppc64le s390x riscv64 i686)
      set(platforms amd64 amd64 arm64 arm64 arm/v7 arm/v7 ppc64le s390x riscv64 386)
      list(FIND processors "${CMAKE_SYSTEM_PROCESSOR}" index)
      if(NOT index EQUAL -1)
        list(GET platforms ${index} platform)
        set(ARG_PLATFORMS "linux/${platform}")
      endif()
    endif()
  endif()
  list(REMOVE_DUPLICATES ARG_PLATFORMS)
endmacro()

# Where no TAGS are given, sets `commit_file`, which has what git describes the commit as, and
# `commit_target`, which brings it up to date: one for all images of a work tree.
macro(_ark_docker_describe_commit)
  set(commit_file)
  set(commit_target)
  if(NOT ARG_TAGS)
    find_package(Git QUIET)
    if(NOT GIT_FOUND)
      _ark_docker_error("git is not installed, and it says what to tag an image with"
                        "install git, or give tags: TAGS v1.2")
    endif()
    execute_process(
      COMMAND "${GIT_EXECUTABLE}" -C "${CMAKE_CURRENT_SOURCE_DIR}" rev-parse --show-toplevel --verify HEAD
      OUTPUT_VARIABLE worktree ERROR_VARIABLE problem RESULT_VARIABLE code
      OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_STRIP_TRAILING_WHITESPACE)
    if(NOT code EQUAL 0)
      set(remedy "commit it, or give tags: TAGS v1.2")
      if(problem MATCHES "git config [^\n]+")
        # git says itself what to type.
        set(remedy "give tags: TAGS v1.2; or trust the folder: ${CMAKE_MATCH_0}")
      endif()
      string(REGEX REPLACE "\n.*" "" problem "${problem}")
      _ark_docker_error("git knows no commit of ${CMAKE_CURRENT_SOURCE_DIR} to tag the image with: ${problem}"
                        "${remedy}")
    endif()
    string(REGEX REPLACE "\n[^\n]*$" "" worktree "${worktree}")
    string(SHA256 hash "${worktree}")
    string(SUBSTRING "${hash}" 0 8 hash)
    set(commit_file "${CMAKE_BINARY_DIR}/ark-docker/commit-${hash}")
    set(commit_target ark-docker-commit-${hash})
    if(NOT TARGET ${commit_target})
      add_custom_target(
        ${commit_target}
        COMMAND "${CMAKE_COMMAND}" -D "GIT=${GIT_EXECUTABLE}" -D "WORKTREE=${worktree}" -D "FILE=${commit_file}"
                -P "${CMAKE_CURRENT_FUNCTION_LIST_DIR}/ArkDockerCommit.cmake"
        COMMAND "${CMAKE_COMMAND}" -E compare_files "${commit_file}" "${commit_file}"
        BYPRODUCTS "${commit_file}"
        COMMENT "Looking up the commit"
        VERBATIM)
    endif()
  endif()
endmacro()

# Appends to `settings` a line that gives a script the list which `variable` holds.
macro(_ark_docker_append_setting setting variable)
  string(APPEND settings "set(${setting}")
  foreach(value IN LISTS ${variable})
    string(REPLACE ";" "\\;" value "${value}")
    string(APPEND settings " [=====[${value}]=====]")
  endforeach()
  string(APPEND settings ")\n")
endmacro()
