# The plugin itself. Included by ../CMakeLists.txt, not added as a subdirectory, so that the bundles end up in
# <build>/Stemline_artefacts.
add_library(stemline_processor STATIC
  processor/captures.cpp
  processor/captures_update.cpp
  processor/instance.cpp
  processor/parameters.cpp
  processor/plugin_editor.cpp
  processor/plugin_editor_state.cpp
  processor/plugin_processor.cpp
  processor/plugin_state.cpp
  processor/user_settings.cpp)
target_include_directories(stemline_processor PUBLIC ${CMAKE_CURRENT_LIST_DIR}/..)
target_compile_definitions(stemline_processor PRIVATE STEMLINE_VERSION="${PROJECT_VERSION}")
target_link_libraries(stemline_processor PUBLIC stemline_juce stemline_engine stemline_client PRIVATE stemline_warnings)
foreach(part stemline_capture stemline_editor)
  if(TARGET ${part})
    target_link_libraries(stemline_processor PUBLIC ${part})
  endif()
endforeach()

set(stemline_formats VST3 LV2)
if(APPLE)
  list(APPEND stemline_formats AU)
endif()
# The standalone application wants JUCE's modules for sound cards and audio files, which Debian's JUCE cannot compile.
if(NOT JUCE_FOUND)
  list(APPEND stemline_formats Standalone)
endif()
set(stemline_lv2_uri https://stemline.org/plugins/stemline)
juce_add_plugin(Stemline
  PRODUCT_NAME Stemline
  COMPANY_NAME Stemline
  BUNDLE_ID org.stemline.plugin
  PLUGIN_MANUFACTURER_CODE Stml
  PLUGIN_CODE Stm1
  FORMATS ${stemline_formats}
  VST3_CATEGORIES Fx Tools
  AU_MAIN_TYPE kAudioUnitType_Effect
  LV2URI ${stemline_lv2_uri}
  DESCRIPTION "Stems on DAW tracks"
  MICROPHONE_PERMISSION_ENABLED TRUE
  MICROPHONE_PERMISSION_TEXT "The standalone application separates what you play into it."
  COPY_PLUGIN_AFTER_BUILD FALSE)
target_sources(Stemline PRIVATE processor/plugin.cpp)
if(Standalone IN_LIST stemline_formats)
  target_link_libraries(Stemline PRIVATE juce::juce_audio_utils)
endif()
target_link_libraries(Stemline PRIVATE stemline_processor)
# Debian's JUCE otherwise takes the plugin's name, which hosts read as a path beside the bundle.
target_compile_definitions(Stemline_LV2 PRIVATE JucePlugin_LV2URI="${stemline_lv2_uri}")

# A host may load many plugins, each with its own gRPC: nothing of ours is visible but the entry points, and what is
# loaded once stays, because gRPC's threads would return into code that is gone.
if(UNIX AND NOT APPLE)
  foreach(format VST3 LV2)
    target_link_options(Stemline_${format} PRIVATE
      -Wl,--exclude-libs,ALL -Wl,-z,nodelete -Wl,--gc-sections
      -Wl,--version-script=${CMAKE_CURRENT_LIST_DIR}/exports_${format}.map)
    set_property(TARGET Stemline_${format} APPEND PROPERTY LINK_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/exports_${format}.map)
  endforeach()
endif()
