#include "editor/settings_sheet.h"
#include <cmath>

namespace stemline::editor {
namespace {

constexpr std::array<double, 6> limitsGb{5, 10, 20, 50, 100, 200};

juce::Component* asComponent(juce::Component& component) { return &component; }

} // namespace

SettingsSheet::Page::Page(LookAndFeel& shared) : look(shared) {}

void SettingsSheet::Page::paint(juce::Graphics& g) {
    const auto& theme = look.theme;
    g.fillAll(theme[Token::bar]);
    g.setColour(theme[Token::edge]);
    g.fillRect(0, 0, 1, getHeight());
    const auto boxes = sheetBoxes();
    drawLine(g, "Settings", Box(24, 10, 300, 32), font(16, Weight::medium), theme[Token::hi]);
    const auto section = [&](const char* text, Box first, int separator) {
        g.setColour(theme[Token::line]);
        g.fillRect(24, separator, 480, 1);
        drawLine(g, text, first.withX(24).withWidth(90), font(13, Weight::medium), theme[Token::mid]);
    };
    const auto label = [&](const char* text, Box beside) {
        drawLine(g, text, beside.withX(60).withWidth(124), font(13), theme[Token::hi], juce::Justification::right);
    };
    const auto note = [&](const juce::String& text, Box beside) {
        drawLine(g, text, beside.withX(beside.getRight() + 12).withRight(504), font(12), theme[Token::mid]);
    };
    section("Server", boxes.where, 52);
    label("Run on", boxes.where);
    label("Address", boxes.address);
    label("TLS", boxes.tls);
    note(answer.isNotEmpty() ? answer : "Always on for another computer", boxes.tls);
    label("Token", boxes.token);
    section("Compute", boxes.device, 232);
    label("Device", boxes.device);
    section("Cache", boxes.cacheLimit, 289);
    label("Size limit", boxes.cacheLimit);
    label("Location", boxes.cachePath);
    if (!settings.cacheProblem.empty()) // the rest is in the tooltip
        drawLine(g, utf8(settings.cacheProblem).upToFirstOccurrenceOf(":", false, false), Box(60, 372, 444, 15),
                 font(12), theme[Token::err], juce::Justification::right);
    const Box used(300, 300, 104, 30);
    drawLine(g, juce::String(settings.cacheUsedGb, 1) + " GB used", used.withHeight(16), font(12), theme[Token::hi]);
    const auto bar = used.withTop(used.getY() + 20).withHeight(6).toFloat();
    g.setColour(theme[Token::inset]);
    g.fillRoundedRectangle(bar, 3);
    g.setColour(theme[Token::edge]);
    g.drawRoundedRectangle(bar.reduced(0.5f), 2.5f, 1);
    const double part =
        settings.cacheCapGb > 0 ? juce::jlimit(0.0, 1.0, settings.cacheUsedGb / settings.cacheCapGb) : 0.0;
    g.setColour(theme[Token::on]);
    g.fillRoundedRectangle(bar.withWidth(bar.getWidth() * static_cast<float>(part)), 3);
    section("About", boxes.licences.withHeight(16), 387);
    auto about = utf8("Stemline " + settings.version);
    if (!settings.serverVersion.empty())
        about += utf8(" · server " + settings.serverVersion);
    drawLine(g, about, Box(200, 405, 196, 16), font(13), theme[Token::hi]);
    drawLine(g, "Free software, GPL-3.0-or-later", Box(200, 424, 196, 16), font(12), theme[Token::mid]);
    drawLine(g, "Each model has its own licence.", Box(200, 442, 196, 16), font(12), theme[Token::mid]);
    section("More", boxes.light, 496);
    label("Light colours", boxes.light);
    label("Start server", boxes.autoStart);
    note("By itself, when the plugin needs it", boxes.autoStart);
    label("CA file", boxes.caFile);
    label("Token file", boxes.tokenFile);
    section("Project", boxes.seed, 669);
    label("Seed", boxes.seed);
    note("Of the refiner's noise", boxes.seed);
}

SettingsSheet::SettingsSheet(LookAndFeel& look, EditorActions& actions, juce::AudioProcessorValueTreeState& parameters)
    : look_(look), actions_(actions), page_(look), close_("settings.close", "Close", look, PushButton::Kind::quiet),
      where_("set.where", look, juce::StringArray{"This computer", "Another computer"}),
      test_("set.test", "Test", look), tls_("set.tls", look), paste_("set.paste", "Paste", look),
      device_("set.device", look), cacheLimit_("set.cache_limit", look), clear_("set.clear", utf8("Clear…"), look),
      choose_("set.choose", utf8("Choose…"), look), licences_("set.licences", "Licences", look),
      light_("set.light", look), autoStart_("set.auto_start", look), caChoose_("set.choose_ca", utf8("Choose…"), look),
      tokenChoose_("set.choose_token", utf8("Choose…"), look),
      seedAttachment_(*parameters.getParameter("seed"), [this](float value) {
          if (!seed_.hasKeyboardFocus(true))
              seed_.setText(juce::String(juce::roundToInt(value)), false);
      }) {
    setComponentID("settings_sheet");
    setTitle("Settings");
    setWantsKeyboardFocus(true);
    setFocusContainerType(FocusContainerType::keyboardFocusContainer);
    view_.setComponentID("settings_panel");
    view_.setViewedComponent(&page_, false);
    view_.setScrollBarsShown(true, false);
    addAndMakeVisible(view_);
    close_.setIcon(closeIcon());
    close_.setShown({}, true);
    where_.setTitle("Run on");
    for (size_t index = 0; index < limitsGb.size(); ++index)
        cacheLimit_.addItem(juce::String(limitsGb[index]) + " GB", static_cast<int>(index) + 1);
    cacheLimit_.setTitle("Largest size of the capture cache");
    device_.setTitle("Compute on");
    tls_.setTitle("TLS");
    tls_.setTooltip("Another computer is never asked without it");
    tls_.setEnabled(false);
    prepareField(address_, "set.address", "Address");
    prepareField(token_, "set.token", "Token");
    token_.setPasswordCharacter(static_cast<juce::juce_wchar>(0x2022));
    prepareField(cachePath_, "set.cache_path", "Cache folder");
    cachePath_.setReadOnly(true);
    prepareField(caFile_, "set.ca_file", "CA file");
    prepareField(tokenFile_, "set.token_file", "Token file");
    caFile_.setTextToShowWhenEmpty("The system's", look.theme[Token::dim]);
    prepareField(seed_, "set.seed", "Seed");
    seed_.setInputRestrictions(4, "0123456789");
    seed_.onReturnKey = seed_.onFocusLost = [this] { applySeed(); };
    seedAttachment_.sendInitialUpdate();
    test_.setTitle("Test the address");
    paste_.setTitle("Paste the token");
    clear_.setTitle("Clear the cache");
    choose_.setTitle("Choose the cache folder");
    caChoose_.setTitle("Choose the CA file");
    tokenChoose_.setTitle("Choose the token file");
    test_.setTooltip("Asks the server at this address");
    paste_.setTooltip("Takes the token from the clipboard");
    clear_.setTooltip("Deletes recordings and stems that are not open; stems are made again where they are missed");
    choose_.setTooltip("Where captures are kept from now on. Those of before are found where they are");
    light_.setTitle("Light colours");
    autoStart_.setTitle("Start the server by itself");
    for (auto* child :
         {asComponent(close_),      asComponent(where_),     asComponent(address_),     asComponent(test_),
          asComponent(tls_),        asComponent(token_),     asComponent(paste_),       asComponent(device_),
          asComponent(cacheLimit_), asComponent(clear_),     asComponent(cachePath_),   asComponent(choose_),
          asComponent(licences_),   asComponent(light_),     asComponent(autoStart_),   asComponent(caFile_),
          asComponent(caChoose_),   asComponent(tokenFile_), asComponent(tokenChoose_), asComponent(seed_)})
        page_.addAndMakeVisible(child);

    close_.onClick = [this] { onClose(); };
    where_.onChoose = [this](int) { apply(); };
    device_.onChange = cacheLimit_.onChange = light_.onClick = autoStart_.onClick = [this] { apply(); };
    test_.onClick = [this] {
        apply(); // what is typed still counts
        showAnswer("Asking…");
        actions_.testServer(settings_, [sheet = SafePointer<SettingsSheet>(this)](const std::string& answer) {
            if (sheet != nullptr)
                sheet->showAnswer(answer);
        });
    };
    paste_.onClick = [this] {
        token_.setText(juce::SystemClipboard::getTextFromClipboard().trim(), false);
        apply();
    };
    clear_.onClick = [this] { askToClear(); };
    choose_.onClick = [this] { chooseFolder(); };
    caChoose_.onClick = [this] { chooseFile(caFile_, "Certificates to trust"); };
    tokenChoose_.onClick = [this] { chooseFile(tokenFile_, "File with the token"); };
    licences_.onClick = [this] { showLicences(); };
    layOut();
}

void SettingsSheet::prepareField(juce::TextEditor& field, const juce::String& id, const juce::String& title) {
    field.setComponentID(id);
    field.setTitle(title);
    field.setFont(font(13));
    field.setIndents(9, 0);
    field.setJustification(juce::Justification::centredLeft);
    field.onReturnKey = field.onFocusLost = [this] { apply(); };
    field.onEscapeKey = [this] { onClose(); };
}

void SettingsSheet::layOut() {
    const auto boxes = sheetBoxes();
    close_.setBounds(boxes.close);
    where_.setBounds(boxes.where);
    address_.setBounds(boxes.address);
    test_.setBounds(boxes.test);
    tls_.setBounds(boxes.tls);
    token_.setBounds(boxes.token);
    paste_.setBounds(boxes.paste);
    device_.setBounds(boxes.device);
    cacheLimit_.setBounds(boxes.cacheLimit);
    clear_.setBounds(boxes.clear);
    cachePath_.setBounds(boxes.cachePath);
    choose_.setBounds(boxes.choose);
    licences_.setBounds(boxes.licences);
    light_.setBounds(boxes.light);
    autoStart_.setBounds(boxes.autoStart);
    caFile_.setBounds(boxes.caFile);
    caChoose_.setBounds(boxes.caChoose);
    tokenFile_.setBounds(boxes.tokenFile);
    tokenChoose_.setBounds(boxes.tokenChoose);
    seed_.setBounds(boxes.seed);
}

void SettingsSheet::enableFields() {
    for (auto* field : {asComponent(address_), asComponent(token_), asComponent(paste_), asComponent(caFile_),
                        asComponent(caChoose_), asComponent(tokenFile_), asComponent(tokenChoose_)})
        field->setEnabled(settings_.anotherComputer);
    autoStart_.setEnabled(!settings_.anotherComputer);
    device_.setEnabled(!settings_.anotherComputer);
    device_.setTooltip(settings_.anotherComputer ? "The other computer chooses by itself"
                                                 : "What the server computes on; another one restarts it");
}

void SettingsSheet::apply() {
    auto changed = settings_;
    changed.anotherComputer = where_.chosen() == 1;
    changed.address = address_.getText().trim().toStdString();
    changed.token = token_.getText().toStdString();
    changed.tls = true;
    changed.light = light_.getToggleState();
    changed.startAutomatically = autoStart_.getToggleState();
    changed.caFile = caFile_.getText().trim().toStdString();
    changed.tokenFile = tokenFile_.getText().trim().toStdString();
    changed.device = juce::jmax(0, device_.getSelectedItemIndex());
    if (const int limit = cacheLimit_.getSelectedItemIndex(); limit >= 0)
        changed.cacheCapGb = limitsGb[static_cast<size_t>(limit)];
    if (changed == settings_)
        return;
    settings_ = changed;
    enableFields();
    actions_.applySettings(settings_);
}

void SettingsSheet::show(const EditorSettings& settings) {
    if (known_ && settings == settings_)
        return;
    known_ = true;
    if (!settings.cacheProblem.empty() && settings.cacheProblem != settings_.cacheProblem)
        juce::AccessibilityHandler::postAnnouncement(utf8(settings.cacheProblem),
                                                     juce::AccessibilityHandler::AnnouncementPriority::high);
    settings_ = settings;
    where_.show(settings.anotherComputer ? 1 : 0);
    const auto setText = [](juce::TextEditor& field, const std::string& text) {
        if (!field.hasKeyboardFocus(true))
            field.setText(utf8(text), false);
    };
    setText(address_, settings.address);
    setText(token_, settings.token);
    setText(cachePath_, settings.cacheFolder);
    const auto problem = utf8(settings.cacheProblem);
    cachePath_.setTooltip(utf8(settings.cacheFolder) + (problem.isEmpty() ? "" : ". " + problem));
    setText(caFile_, settings.caFile);
    setText(tokenFile_, settings.tokenFile);
    tls_.setToggleState(true, juce::dontSendNotification);
    light_.setToggleState(settings.light, juce::dontSendNotification);
    autoStart_.setToggleState(settings.startAutomatically, juce::dontSendNotification);
    device_.clear(juce::dontSendNotification);
    int id = 1;
    for (const auto& device : settings.devices)
        device_.addItem(utf8(device), id++);
    device_.setSelectedItemIndex(settings.device, juce::dontSendNotification);
    const auto nearest = std::min_element(limitsGb.begin(), limitsGb.end(), [&](double a, double b) {
        return std::abs(a - settings.cacheCapGb) < std::abs(b - settings.cacheCapGb);
    });
    cacheLimit_.setSelectedItemIndex(static_cast<int>(nearest - limitsGb.begin()), juce::dontSendNotification);
    page_.settings = settings;
    enableFields();
    page_.repaint();
}

void SettingsSheet::chooseFolder() {
    if (!settings_.cacheFolderChosen)
        return browseForFolder();
    juce::PopupMenu menu;
    menu.setLookAndFeel(&look_);
    menu.addItem(utf8("Another folder…"), [this] { browseForFolder(); });
    menu.addItem("The default folder", [this] { actions_.chooseCacheFolder({}); });
    menu.showMenuAsync(juce::PopupMenu::Options().withTargetComponent(choose_).withDeletionCheck(*this));
}

void SettingsSheet::browseForFolder() {
    chooser_ = std::make_unique<juce::FileChooser>("Folder for captures", juce::File(utf8(settings_.cacheFolder)));
    const auto choosing = juce::FileBrowserComponent::openMode | juce::FileBrowserComponent::canSelectDirectories;
    chooser_->launchAsync(choosing, [this](const juce::FileChooser& chooser) {
        if (chooser.getResult() != juce::File())
            actions_.chooseCacheFolder(chooser.getResult());
    });
}

/** What goes cannot be brought back, so it is asked for once more. */
void SettingsSheet::askToClear() {
    juce::PopupMenu menu;
    menu.setLookAndFeel(&look_);
    menu.addItem(utf8("Delete what is not open now (of ") + juce::String(settings_.cacheUsedGb, 1) + " GB)",
                 [this] { actions_.clearCache(); });
    menu.addItem("Keep all", [] {});
    menu.showMenuAsync(juce::PopupMenu::Options().withTargetComponent(clear_).withDeletionCheck(*this));
}

void SettingsSheet::chooseFile(juce::TextEditor& into, const juce::String& title) {
    chooser_ = std::make_unique<juce::FileChooser>(title, juce::File(into.getText()));
    const auto choosing = juce::FileBrowserComponent::openMode | juce::FileBrowserComponent::canSelectFiles;
    chooser_->launchAsync(choosing, [this, &into](const juce::FileChooser& chooser) {
        if (chooser.getResult() == juce::File())
            return;
        into.setText(chooser.getResult().getFullPathName(), false);
        apply();
    });
}

void SettingsSheet::showAnswer(const std::string& answer) {
    page_.answer = utf8(answer);
    page_.repaint();
    test_.setTooltip(page_.answer); // all of it
    juce::AccessibilityHandler::postAnnouncement(page_.answer,
                                                 juce::AccessibilityHandler::AnnouncementPriority::medium);
}

void SettingsSheet::applySeed() {
    if (seed_.isEmpty())
        return seedAttachment_.sendInitialUpdate();
    seedAttachment_.setValueAsCompleteGesture(seed_.getText().getFloatValue());
}

void SettingsSheet::showLicences() {
    page_.answer.clear();
    juce::PopupMenu menu;
    menu.setLookAndFeel(&look_);
    for (const auto* part : {"Stemline: GPL-3.0-or-later", "JUCE: GPL-3.0", "gRPC, Roboto: Apache-2.0",
                             "Protocol Buffers: BSD-3-Clause", "libsndfile, soxr: LGPL-2.1-or-later"})
        menu.addItem(part, [] {});
    menu.showMenuAsync(juce::PopupMenu::Options().withTargetComponent(licences_));
}

void SettingsSheet::place(const Boxes& boxes) {
    setBounds(0, boxes.topBar.getBottom(), boxes.sheet.getRight(), boxes.sheet.getHeight());
    view_.setBounds(boxes.sheet - getPosition());
    page_.setSize(boxes.sheet.getWidth(), juce::jmax(sheetBoxes().height, boxes.sheet.getHeight()));
}

void SettingsSheet::paint(juce::Graphics& g) { g.fillAll(juce::Colour(0xff0b0d10).withAlpha(0.62f)); }

void SettingsSheet::mouseDown(const juce::MouseEvent&) { onClose(); }

bool SettingsSheet::keyPressed(const juce::KeyPress& key) {
    if (key != juce::KeyPress(juce::KeyPress::escapeKey))
        return false;
    onClose();
    return true;
}

void SettingsSheet::visibilityChanged() { page_.answer.clear(); }

} // namespace stemline::editor
