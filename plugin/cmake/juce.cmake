# JUCE from a given path, from the system (Debian's 7), or fetched; compiled once, into stemline_juce.
if(STEMLINE_JUCE_PATH)
  add_subdirectory(${STEMLINE_JUCE_PATH} juce EXCLUDE_FROM_ALL)
else()
  find_package(JUCE CONFIG QUIET)  # its version file wants an exact match, so none is asked for
  if(NOT JUCE_FOUND)
    include(FetchContent)
    FetchContent_Declare(juce GIT_REPOSITORY https://github.com/juce-framework/JUCE.git GIT_TAG 8.0.4 GIT_SHALLOW ON)
    FetchContent_MakeAvailable(juce)
  endif()
endif()

set(stemline_juce_definitions
  JUCE_WEB_BROWSER=0 JUCE_USE_CURL=0 JUCE_VST3_CAN_REPLACE_VST2=0 JUCE_DISPLAY_SPLASH_SCREEN=0 JUCE_REPORT_APP_USAGE=0
  JUCE_STRICT_REFCOUNTEDPOINTER=1 JUCE_MODAL_LOOPS_PERMITTED=0
  JUCE_USE_MP3AUDIOFORMAT=0)

add_library(stemline_juce STATIC)
target_link_libraries(stemline_juce
  PRIVATE juce::juce_audio_processors juce::juce_gui_basics
  PUBLIC juce::juce_recommended_config_flags)
target_compile_definitions(stemline_juce
  PUBLIC ${stemline_juce_definitions} JUCE_GLOBAL_MODULE_SETTINGS_INCLUDED=1
  INTERFACE $<TARGET_PROPERTY:stemline_juce,COMPILE_DEFINITIONS>)
target_include_directories(stemline_juce SYSTEM INTERFACE $<TARGET_PROPERTY:stemline_juce,INCLUDE_DIRECTORIES>)
set_target_properties(stemline_juce PROPERTIES POSITION_INDEPENDENT_CODE ON)
# Debian's JUCE uses the system's libraries for pictures, and names them to the linker before what needs them.
if(UNIX AND NOT APPLE AND JUCE_FOUND)
  find_package(PNG REQUIRED)
  find_package(JPEG REQUIRED)
  target_link_libraries(stemline_juce INTERFACE PNG::PNG JPEG::JPEG)
endif()
