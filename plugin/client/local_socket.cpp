#include "client/local_socket.h"

#include "client/problem.h"

#if !defined(_WIN32)

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>

namespace stemline::client {

namespace {

constexpr int patienceMs = 500; // a busy loopback, not a network

ClientError unreachable(const std::string& address, const std::string& why) {
    return ClientError(
        Problem{"SERVER_UNREACHABLE", "nothing answers at " + address + ": " + why, {{"address", address}}});
}

/// Closes the socket unless it was connected.
class Socket {
  public:
    explicit Socket(int family) : descriptor_(::socket(family, SOCK_STREAM, 0)) {
        if (descriptor_ < 0)
            return;
        ::fcntl(descriptor_, F_SETFD, FD_CLOEXEC);
        ::fcntl(descriptor_, F_SETFL, ::fcntl(descriptor_, F_GETFL) | O_NONBLOCK);
#ifdef SO_NOSIGPIPE
        const int on = 1;
        ::setsockopt(descriptor_, SOL_SOCKET, SO_NOSIGPIPE, &on, sizeof on);
#endif
    }
    ~Socket() {
        if (descriptor_ >= 0)
            ::close(descriptor_);
    }
    Socket(const Socket&) = delete;
    Socket& operator=(const Socket&) = delete;

    /// 0, or the error.
    int connect(const sockaddr* address, socklen_t size) {
        if (descriptor_ < 0)
            return errno;
        if (::connect(descriptor_, address, size) == 0)
            return 0;
        if (errno != EINPROGRESS)
            return errno;
        pollfd waiting{descriptor_, POLLOUT, 0};
        if (::poll(&waiting, 1, patienceMs) != 1)
            return ETIMEDOUT;
        int error = 0;
        socklen_t length = sizeof error;
        ::getsockopt(descriptor_, SOL_SOCKET, SO_ERROR, &error, &length);
        return error;
    }

    int release() { return std::exchange(descriptor_, -1); }

  private:
    int descriptor_;
};

int connectUnix(const std::string& address) {
    std::string path = address.substr(std::strlen("unix:"));
    if (path.starts_with("///")) // unix:///path is the same as unix:/path
        path.erase(0, 2);
    sockaddr_un name{};
    name.sun_family = AF_UNIX;
    if (path.empty() || path.size() >= sizeof name.sun_path)
        throw unreachable(address, "this is no path of a socket");
    std::memcpy(name.sun_path, path.data(), path.size());
    Socket socket(AF_UNIX);
    const int error = socket.connect(reinterpret_cast<const sockaddr*>(&name), sizeof name);
    if (error != 0)
        throw unreachable(address, std::strerror(error));
    return socket.release();
}

int connectLoopback(const std::string& address) {
    const std::size_t colon = address.rfind(':');
    if (colon == std::string::npos)
        throw unreachable(address, "this is no address; write 127.0.0.1:7000, [::1]:7000 or unix:/path");
    std::string host = address.substr(0, colon);
    if (host.starts_with('[') && host.ends_with(']'))
        host = host.substr(1, host.size() - 2);
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_NUMERICSERV;
    addrinfo* found = nullptr;
    if (const int error = ::getaddrinfo(host.c_str(), address.substr(colon + 1).c_str(), &hints, &found); error != 0)
        throw unreachable(address, ::gai_strerror(error));
    const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> owner(found, &::freeaddrinfo);
    int error = ENOENT;
    for (const addrinfo* one = found; one != nullptr; one = one->ai_next) {
        Socket socket(one->ai_family);
        error = socket.connect(one->ai_addr, one->ai_addrlen);
        if (error == 0) {
            const int descriptor = socket.release();
            const int on = 1;
            ::setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
            return descriptor;
        }
    }
    throw unreachable(address, std::strerror(error));
}

} // namespace

int connectLocal(const std::string& address) {
    return address.starts_with("unix:") ? connectUnix(address) : connectLoopback(address);
}

int duplicateSocket(int descriptor) { return descriptor < 0 ? -1 : ::fcntl(descriptor, F_DUPFD_CLOEXEC, 0); }

void shutDownSocket(int descriptor) {
    if (descriptor >= 0)
        ::shutdown(descriptor, SHUT_RDWR);
}

void closeSocket(int descriptor) {
    if (descriptor >= 0)
        ::close(descriptor);
}

} // namespace stemline::client

#else

namespace stemline::client {

int duplicateSocket(int) { return -1; }
void shutDownSocket(int) {}
void closeSocket(int) {}

} // namespace stemline::client

#endif
