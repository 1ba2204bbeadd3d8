#pragma once

namespace stemline::host {

/** Makes a bare X server (Xvfb without a window manager) fit for JUCE 7, which uses some atoms without asking whether
    anybody has made them. Does nothing without a display. */
class Screen {
  public:
    Screen();
    ~Screen();
    Screen(const Screen&) = delete;
    Screen& operator=(const Screen&) = delete;

  private:
    void* display_ = nullptr;
};

} // namespace stemline::host
