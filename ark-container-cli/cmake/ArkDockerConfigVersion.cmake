# Compatibility of find_package(ArkDocker VERSION), with the rules of cargo: the requested version must not be newer,
# and must have the same major number, or before 1.0 the same minor number.

set(PACKAGE_VERSION 0.1.0)
string(REGEX MATCH "^0\\.[0-9]+|^[1-9][0-9]*" _ark_docker_series "${PACKAGE_VERSION}")

if(PACKAGE_FIND_VERSION VERSION_EQUAL PACKAGE_VERSION)
  set(PACKAGE_VERSION_EXACT TRUE)
endif()
if(PACKAGE_FIND_VERSION VERSION_GREATER PACKAGE_VERSION
   OR PACKAGE_FIND_VERSION VERSION_LESS _ark_docker_series)
  set(PACKAGE_VERSION_COMPATIBLE FALSE)
else()
  set(PACKAGE_VERSION_COMPATIBLE TRUE)
endif()
unset(_ark_docker_series)
