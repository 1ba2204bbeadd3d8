#include "processor/user_settings.h"
#if !JUCE_WINDOWS
#include <sys/stat.h>
#endif

namespace stemline {

juce::File UserSettings::file() {
    const auto home = juce::SystemStats::getEnvironmentVariable("STEMLINE_HOME", {});
    if (home.isNotEmpty())
        return juce::File(home).getChildFile("config/plugin.xml");
    return juce::File::getSpecialLocation(juce::File::userApplicationDataDirectory).getChildFile("stemline/plugin.xml");
}

UserSettings UserSettings::load() {
    UserSettings settings;
    if (const auto xml = juce::parseXML(file())) {
        settings.anotherComputer = xml->getBoolAttribute("anotherComputer");
        settings.address = xml->getStringAttribute("address");
        settings.token = xml->getStringAttribute("token");
        settings.tokenFile = xml->getStringAttribute("tokenFile");
        settings.caFile = xml->getStringAttribute("caFile");
        settings.startAutomatically = xml->getBoolAttribute("startAutomatically", true);
        settings.cacheCapGb = juce::jlimit(1.0, 10000.0, xml->getDoubleAttribute("cacheCapGb", 20.0));
        settings.device = xml->getStringAttribute("device");
        settings.cacheFolder = xml->getStringAttribute("cacheFolder");
        for (const auto* earlier : xml->getChildWithTagNameIterator("earlierCache"))
            settings.earlierCacheFolders.add(earlier->getStringAttribute("folder"));
        settings.light = xml->getBoolAttribute("light");
    }
    return settings;
}

bool UserSettings::change(const std::function<void(UserSettings&)>& changes) {
    auto settings = load();
    changes(settings);
    return settings.save();
}

capture::StoreFolders UserSettings::storeFolders() const {
    const auto path = [](const juce::String& text) { return std::filesystem::path(text.toStdString()); };
    capture::StoreFolders folders{cacheFolder.isEmpty() ? capture::defaultStoreRoot() : path(cacheFolder), {}};
    for (const auto& earlier : earlierCacheFolders)
        folders.earlier.push_back(path(earlier));
    folders.earlier.push_back(capture::defaultStoreRoot());
    return folders;
}

void UserSettings::setStoreRoot(const juce::String& root) {
    if (cacheFolder.isNotEmpty())
        earlierCacheFolders.addIfNotAlreadyThere(cacheFolder);
    cacheFolder = root;
}

bool UserSettings::save() const {
    juce::XmlElement xml("stemline");
    xml.setAttribute("anotherComputer", anotherComputer);
    xml.setAttribute("address", address);
    xml.setAttribute("token", token);
    xml.setAttribute("tokenFile", tokenFile);
    xml.setAttribute("caFile", caFile);
    xml.setAttribute("startAutomatically", startAutomatically);
    xml.setAttribute("cacheCapGb", cacheCapGb);
    xml.setAttribute("device", device);
    xml.setAttribute("cacheFolder", cacheFolder);
    for (const auto& earlier : earlierCacheFolders)
        xml.createNewChildElement("earlierCache")->setAttribute("folder", earlier);
    xml.setAttribute("light", light);
    const auto target = file();
    if (!target.getParentDirectory().createDirectory())
        return false;
    juce::TemporaryFile beside(target);
    if (!xml.writeTo(beside.getFile()))
        return false;
#if !JUCE_WINDOWS
    chmod(beside.getFile().getFullPathName().toRawUTF8(), 0600); // it may hold a token
#endif
    return beside.overwriteTargetFileWithTemporary();
}

client::ServerChoice UserSettings::server() const {
    client::ServerChoice choice;
    // Never by itself in tests, and in studios that start their servers themselves.
    choice.startAutomatically =
        startAutomatically && juce::SystemStats::getEnvironmentVariable("STEMLINE_NO_AUTOSTART", {}).isEmpty();
    if (device == "cpu")
        choice.startArguments = {"--cpu"};
    else if (device.startsWith("cuda:"))
        choice.startArguments = {"--gpu",
                                 std::to_string(device.fromFirstOccurrenceOf(":", false, false).getIntValue())};
    if (anotherComputer) {
        client::Endpoint endpoint;
        endpoint.address = address.trim().toStdString();
        endpoint.token =
            (tokenFile.isNotEmpty() ? juce::File(tokenFile).loadFileAsString() : token).trim().toStdString();
        endpoint.caCertificateFile = caFile.toStdString();
        endpoint.tls = true;
        choice.remote = endpoint;
    }
    return choice;
}

} // namespace stemline
