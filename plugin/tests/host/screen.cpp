#include "screen.h"
#include <X11/Xlib.h>
#include <initializer_list>

namespace stemline::host {

Screen::Screen() : display_(XOpenDisplay(nullptr)) {
    if (display_ == nullptr)
        return;
    for (const char* name : {"WM_PROTOCOLS", "WM_TAKE_FOCUS", "WM_DELETE_WINDOW", "WM_CHANGE_STATE", "WM_STATE",
                             "_NET_WM_PING", "_NET_ACTIVE_WINDOW"})
        XInternAtom(static_cast<Display*>(display_), name, False);
    XSync(static_cast<Display*>(display_), False);
}

// The atoms last as long as anybody is connected.
Screen::~Screen() {
    if (display_ != nullptr)
        XCloseDisplay(static_cast<Display*>(display_));
}

} // namespace stemline::host
