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
    const auto boxes = sheetBoxes();
    drawLine(g, "Settings", Box(24, 10, 300, 32), font(16, Weight::medium), theme[Token::hi]);
    const auto label = [&](const char* text, Box beside) {
        drawLine(g, text, beside.withX(24).withWidth(168), font(13), theme[Token::mid]);
    };
    label("Server", boxes.where);
    label("Address", boxes.address);
    label("Encrypted (TLS)", boxes.tls);
    label("Token", boxes.token);
    label("Compute on", boxes.device);
    label("Capture cache", boxes.cacheLimit);
    label("Folder", boxes.cachePath);
    drawLine(g, used, boxes.cacheLimit.withX(boxes.cacheLimit.getRight() + 8).withWidth(110), font(12),
             theme[Token::dim]);
    drawLine(g, answer, boxes.tls.withX(boxes.tls.getRight() + 12).withWidth(250), font(12), theme[Token::dim]);
}

SettingsSheet::SettingsSheet(LookAndFeel& look, EditorActions& actions)
    : look_(look), actions_(actions), page_(look), close_("settings.close", "Close", look, PushButton::Kind::quiet),
      where_("set.where", look), test_("set.test", "Test", look), tls_("set.tls", look),
      paste_("set.paste", "Paste", look), device_("set.device", look), cacheLimit_("set.cache_limit", look),
      clear_("set.clear", "Clear", look), choose_("set.choose", utf8("Choose…"), look),
      licences_("set.licences", "Licences", look) {
    setComponentID("settings_sheet");
    setTitle("Settings");
    setFocusContainerType(FocusContainerType::keyboardFocusContainer);
    page_.setComponentID("settings_panel");
    view_.setViewedComponent(&page_, false);
    view_.setScrollBarsShown(true, false);
    addAndMakeVisible(view_);
    close_.setIcon(closeIcon());
    close_.setShown({}, true);
    where_.addItemList({"This computer", "Another computer"}, 1);
    where_.setTitle("Server");
    for (size_t index = 0; index < limitsGb.size(); ++index)
        cacheLimit_.addItem(juce::String(limitsGb[index]) + " GB", static_cast<int>(index) + 1);
    cacheLimit_.setTitle("Largest size of the capture cache");
    device_.setTitle("Compute on");
    tls_.setTitle("Encrypted");
    prepareField(address_, "set.address", "Address");
    prepareField(token_, "set.token", "Token");
    token_.setPasswordCharacter(static_cast<juce::juce_wchar>(0x2022));
    prepareField(cachePath_, "set.cache_path", "Cache folder");
    cachePath_.setReadOnly(true);
    for (auto* child :
         {asComponent(close_), asComponent(where_), asComponent(address_), asComponent(test_), asComponent(tls_),
          asComponent(token_), asComponent(paste_), asComponent(device_), asComponent(cacheLimit_), asComponent(clear_),
          asComponent(cachePath_), asComponent(choose_), asComponent(licences_)})
        page_.addAndMakeVisible(child);

    close_.onClick = [this] { onClose(); };
    where_.onChange = device_.onChange = cacheLimit_.onChange = tls_.onClick = [this] { apply(); };
    test_.onClick = [this] {
        page_.answer = utf8("Asking…");
        page_.repaint();
        actions_.testServer(settings_, [sheet = SafePointer<SettingsSheet>(this)](const std::string& answer) {
            if (sheet == nullptr)
                return;
            sheet->page_.answer = utf8(answer);
            sheet->page_.repaint();
        });
    };
    paste_.onClick = [this] {
        token_.setText(juce::SystemClipboard::getTextFromClipboard().trim(), false);
        apply();
    };
    clear_.onClick = [this] { actions_.clearCache(); };
    choose_.onClick = [this] { chooseFolder(); };
    layOut();
}

void SettingsSheet::prepareField(juce::TextEditor& field, const juce::String& id, const juce::String& title) {
    field.setComponentID(id);
    field.setTitle(title);
    field.setFont(font(13));
    field.setIndents(10, 0);
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
}

void SettingsSheet::enableFields() {
    for (auto* field : {asComponent(address_), asComponent(tls_), asComponent(token_), asComponent(paste_)})
        field->setEnabled(settings_.anotherComputer);
}

void SettingsSheet::apply() {
    auto changed = settings_;
    changed.anotherComputer = where_.getSelectedItemIndex() == 1;
    changed.address = address_.getText().trim().toStdString();
    changed.token = token_.getText().toStdString();
    changed.tls = tls_.getToggleState();
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
    settings_ = settings;
    where_.setSelectedItemIndex(settings.anotherComputer ? 1 : 0, juce::dontSendNotification);
    const auto setText = [](juce::TextEditor& field, const std::string& text) {
        if (!field.hasKeyboardFocus(true))
            field.setText(utf8(text), false);
    };
    setText(address_, settings.address);
    setText(token_, settings.token);
    setText(cachePath_, settings.cacheFolder);
    tls_.setToggleState(settings.tls, juce::dontSendNotification);
    device_.clear(juce::dontSendNotification);
    int id = 1;
    for (const auto& device : settings.devices)
        device_.addItem(utf8(device), id++);
    device_.setSelectedItemIndex(settings.device, juce::dontSendNotification);
    const auto nearest = std::min_element(limitsGb.begin(), limitsGb.end(), [&](double a, double b) {
        return std::abs(a - settings.cacheCapGb) < std::abs(b - settings.cacheCapGb);
    });
    cacheLimit_.setSelectedItemIndex(static_cast<int>(nearest - limitsGb.begin()), juce::dontSendNotification);
    page_.used = juce::String(settings.cacheUsedGb, 1) + " GB used";
    enableFields();
    page_.repaint();
}

void SettingsSheet::chooseFolder() {
    chooser_ = std::make_unique<juce::FileChooser>("Folder for captures", juce::File(utf8(settings_.cacheFolder)));
    const auto choosing = juce::FileBrowserComponent::openMode | juce::FileBrowserComponent::canSelectDirectories;
    chooser_->launchAsync(choosing, [this](const juce::FileChooser& chooser) {
        if (chooser.getResult() == juce::File())
            return;
        settings_.cacheFolder = chooser.getResult().getFullPathName().toStdString();
        cachePath_.setText(utf8(settings_.cacheFolder), false);
        actions_.applySettings(settings_);
    });
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
