/// @file
/// acme_micro.hpp - ACME (RFC 8555) client library, C++17 API; header only, on acme_micro.h.
///
/// Obtain a certificate, blocking:
///
///     acme::key account = acme::key::generate();            // store account.pem() first
///     acme::client_options ca;
///     ca.directory_url = ACME_LETSENCRYPT_STAGING;
///     ca.account_key = &account;
///     ca.terms_agreed = true;
///     acme::order_options order;
///     order.names = {"example.org", "www.example.org"};
///     acme::handlers handlers;
///     handlers.publish = [](const acme::challenge &c) { put(c.http_path, c.key_authorization); };
///     handlers.unpublish = [](const acme::challenge &c) { remove(c.http_path); };
///     acme::certificate cert = acme::client(ca).obtain(order, handlers);
///
/// The options are aggregates: in C++20 `.obtain({.names = {"example.org"}}, {.publish = ...})`.
///
/// On an event loop, use calls that never block: acme::operation::poll() with your own HTTP client,
/// or acme::driver, which needs none.
///
/// Rules that hold for every class and function:
///
///  1. A function that fails throws an acme::error or a class derived from it. An exception that
///     your handler throws ends the operation; the call that ran the handler throws the same
///     exception again, unchanged.
///  2. acme::client, key, csr, certificate, operation, driver, store and manager are handles. They
///     can be moved but not copied. Their destructors free them, in any order: an object that still
///     needs another one keeps it alive. A handle that was moved from throws acme::misuse when it
///     is used.
///  3. The caller owns every returned object. A std::string_view is valid as long as the object
///     that returned it, or the object that this one was moved to.
///  4. Handles may move between threads. Many threads may use a client, key, csr, certificate or
///     store at once; one thread at a time may use an operation, but any thread may call
///     operation::cancel().
///  5. No function blocks, sleeps, starts a thread, reads the environment or opens a file or
///     socket. The exceptions are operation::send(), operation::run(), client::obtain() and
///     manager::run(); the constructor of client, which reads the files that its options name;
///     certificate::write_files(); driver; and the functions of store and operation::access_store().
///  6. Text is UTF-8. An empty std::optional is an absent value or, in options, the default.
///  7. The C API is available for everything else: native_handle() returns the C handle, and a
///     constructor takes over a C handle.
///
/// Link with -lacme-micro (pkg-config acme-micro). The rules of acme_micro.h apply here, too.

#ifndef ACME_MICRO_HPP
#define ACME_MICRO_HPP

#if !(__cplusplus >= 201703L || (defined(_MSVC_LANG) && _MSVC_LANG >= 201703L))
#error "acme_micro.hpp needs C++17 or later"
#endif

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "acme_micro.h"

/// The C++ API of acme-micro.
namespace acme {

/// A moment. A moment beyond the range of the clock becomes the last moment of that range: a
/// certificate of the year 9999 ends in 2262 if the clock counts nanoseconds.
using time_point = std::chrono::system_clock::time_point;

/// Binary data: DER, a digest or a signature.
using bytes = std::vector<std::uint8_t>;

// --- numbers ------------------------------------------------------------------------------------
// These are the values of acme_micro.h. A newer library may return others: handle the default case.

/// Kinds of failure; see acme_status_t.
enum class status : std::int32_t {
    ok = ACME_OK,
    invalid_argument = ACME_ERR_INVALID_ARGUMENT,
    misuse = ACME_ERR_MISUSE,
    unsupported = ACME_ERR_UNSUPPORTED,
    panic = ACME_ERR_PANIC,
    parse = ACME_ERR_PARSE,
    crypto = ACME_ERR_CRYPTO,
    transport = ACME_ERR_TRANSPORT,
    protocol = ACME_ERR_PROTOCOL,
    timeout = ACME_ERR_TIMEOUT,
    policy = ACME_ERR_POLICY,
    server = ACME_ERR_SERVER,
    problem = ACME_ERR_PROBLEM,
    rate_limited = ACME_ERR_RATE_LIMITED,
    terms = ACME_ERR_TERMS,
    eab_required = ACME_ERR_EAB_REQUIRED,
    account = ACME_ERR_ACCOUNT,
    challenge = ACME_ERR_CHALLENGE,
    order = ACME_ERR_ORDER,
    certificate = ACME_ERR_CERTIFICATE,
    host = ACME_ERR_HOST,
    canceled = ACME_ERR_CANCELED,
    store = ACME_ERR_STORE,
    conflict = ACME_ERR_CONFLICT,
};

/// Kinds of key; see acme_key_type_t.
enum class key_type : int {
    p256 = ACME_KEY_P256,
    p384 = ACME_KEY_P384,
    p521 = ACME_KEY_P521,
    rsa2048 = ACME_KEY_RSA2048,
    rsa3072 = ACME_KEY_RSA3072,
    rsa4096 = ACME_KEY_RSA4096,
    ed25519 = ACME_KEY_ED25519,
};

/// Results of operation::poll(): what the caller does next.
enum class step : int {
    /// The operation has succeeded: take its result.
    done = ACME_STEP_DONE,
    /// Send operation::request(), pass the response to operation::respond() or to its parts, poll
    /// again. Returned once per request; more requests may follow before this one has its response.
    request = ACME_STEP_REQUEST,
    /// Nothing to do for the time of operation::wait(). An earlier poll does no harm.
    wait = ACME_STEP_WAIT,
    /// Publish operation::challenges(), call operation::published() when all are in place, poll
    /// again. Returned once.
    publish = ACME_STEP_PUBLISH,
    /// Remove the records of operation::challenges(), poll again. Returned once, before success and
    /// before failure.
    unpublish = ACME_STEP_UNPUBLISH,
    /// Sign operation::sign_request() with the key that is outside the process, pass the signature
    /// to operation::signed_with(), poll again. Returned once per signature.
    sign = ACME_STEP_SIGN,
    /// Call operation::access_store(), on any thread, and poll again. It may block. Only operations
    /// of a client with a store have this step.
    store = ACME_STEP_STORE,
};

/// Levels of the log; see acme_log_level_t.
enum class log_level : int {
    error = ACME_LOG_ERROR,
    warn = ACME_LOG_WARN,
    info = ACME_LOG_INFO,
    debug = ACME_LOG_DEBUG,
    trace = ACME_LOG_TRACE,
};

/// Optional parts of the library; see has().
enum class feature : std::uint32_t {
    /// The built-in HTTPS client of operation::send(), operation::run() and client::obtain().
    http = ACME_FEATURE_HTTP,
};

/// Reasons for a revocation (RFC 5280 section 5.3.1); see acme_revocation_reason_t.
enum class revocation_reason : int {
    unspecified = ACME_REVOKE_UNSPECIFIED,
    key_compromise = ACME_REVOKE_KEY_COMPROMISE,
    ca_compromise = ACME_REVOKE_CA_COMPROMISE,
    affiliation_changed = ACME_REVOKE_AFFILIATION_CHANGED,
    superseded = ACME_REVOKE_SUPERSEDED,
    cessation_of_operation = ACME_REVOKE_CESSATION_OF_OPERATION,
    certificate_hold = ACME_REVOKE_CERTIFICATE_HOLD,
    remove_from_crl = ACME_REVOKE_REMOVE_FROM_CRL,
    privilege_withdrawn = ACME_REVOKE_PRIVILEGE_WITHDRAWN,
    aa_compromise = ACME_REVOKE_AA_COMPROMISE,
};

/// Meanings of order_options::preferred_chain; see acme_chain_by_t.
enum class chain_by : int {
    root = ACME_CHAIN_BY_ROOT,
    issuer = ACME_CHAIN_BY_ISSUER,
    key_id = ACME_CHAIN_BY_KEY_ID,
    smallest = ACME_CHAIN_SMALLEST,
};

/// Types of events of a manager; see manager_event.
enum class event_type : int {
    /// The certificate was read from the store: use it.
    loaded = ACME_EVENT_LOADED,
    /// The first certificate of this name was issued: use it.
    obtained = ACME_EVENT_OBTAINED,
    /// A new certificate was issued: use it.
    renewed = ACME_EVENT_RENEWED,
    /// The CA was asked, and the renewal is not due.
    not_due = ACME_EVENT_NOT_DUE,
    /// An attempt failed. The certificate in use, if any, stays; the next attempt is at next_try.
    failed = ACME_EVENT_FAILED,
    /// Attempts have ended, because they cannot succeed or have failed for weeks. manager::renew(),
    /// or manager::add() with other options, begins anew.
    stopped = ACME_EVENT_STOPPED,
    /// The CA failed, see the error. The attempt goes on with the next CA of manager::add_ca().
    other_ca = ACME_EVENT_OTHER_CA,
    /// A sixth of the certificate's lifetime is left, and it is not renewed.
    expiring = ACME_EVENT_EXPIRING,
    /// The certificate has expired.
    expired = ACME_EVENT_EXPIRED,
    /// The CA does not answer, or limits all certificates; see the error. One attempt at a time
    /// probes it, the first one at next_try. The event has no name.
    ca_paused = ACME_EVENT_CA_PAUSED,
    /// The CA answers again. The event has no name.
    ca_resumed = ACME_EVENT_CA_RESUMED,
};

/// The next task of a program that polls a manager; see manager_task.
enum class manager_step : int {
    /// Nothing to do for the time of manager_task::wait.
    wait = ACME_MANAGER_WAIT,
    /// Carry out manager_task::attempt, and poll the manager again at once: more attempts may run at
    /// the same time.
    operation = ACME_MANAGER_OPERATION,
    /// Call manager::load() once, on any thread, and poll the manager again at once and after that
    /// call.
    load = ACME_MANAGER_LOAD,
};

namespace detail {

inline std::string to_string(const char *text) { return text ? std::string(text) : std::string(); }

inline std::optional<std::string> to_optional(const char *text)
{
    return text ? std::optional<std::string>(text) : std::nullopt;
}

/// Converts milliseconds since 1970; the result stays within the range of the clock.
inline time_point to_time(acme_time_t milliseconds)
{
    using ms = std::chrono::milliseconds;
    const std::chrono::time_point<std::chrono::system_clock, ms> moment{ms(milliseconds)};
    if (moment >= std::chrono::floor<ms>(time_point::max()))
        return time_point::max();
    if (moment <= std::chrono::ceil<ms>(time_point::min()))
        return time_point::min();
    return moment;
}

inline std::optional<time_point> to_optional_time(acme_time_t milliseconds)
{
    return milliseconds ? std::optional<time_point>(to_time(milliseconds)) : std::nullopt;
}

/// Converts to milliseconds since 1970; nullopt becomes 0, which stands for the system clock.
inline acme_time_t from_time(const std::optional<time_point> &moment)
{
    if (!moment)
        return 0;
    return std::chrono::floor<std::chrono::milliseconds>(moment->time_since_epoch()).count();
}

}  // namespace detail

// --- errors -------------------------------------------------------------------------------------

/// A failure. what() is one line for a log or a person: the action, the name or URL, and why it
/// failed. Copies share one text and are cheap. Any thread may use a copy.
class error : public std::runtime_error {
public:
    /// Copies an error of the C API; shown is read during the call only.
    explicit error(const acme_error_t *shown)
        : std::runtime_error(shown ? acme_error_message(shown) : "unknown error"),
          facts_(std::make_shared<const facts>(shown))
    {
    }

    /// Makes an error of your own, for a handler to throw or for a test.
    error(acme::status status, const std::string &message)
        : std::runtime_error(message), facts_(std::make_shared<const facts>(status))
    {
    }

    /// Copies the error. It cannot be moved, so it stays complete if its copy is thrown again.
    error(const error &) = default;
    /// Copies the error.
    error &operator=(const error &) = default;

    /// Kind of failure. The exception's class says the same to a catch.
    acme::status status() const noexcept { return facts_->status; }
    /// Text of what().
    std::string_view message() const noexcept { return what(); }
    /// Whether the same request will fail again until its input changes. False: a retry may help.
    bool permanent() const noexcept { return facts_->permanent; }
    /// Earliest time of a useful retry (from Retry-After); nullopt when the CA named no time.
    std::optional<time_point> retry_at() const noexcept { return facts_->retry_at; }
    /// DNS name or IP address that the error concerns; nullopt when it concerns no single one.
    const std::optional<std::string> &identifier() const noexcept { return facts_->identifier; }
    /// URL of the failed request; nullopt when the error concerns no single URL.
    const std::optional<std::string> &url() const noexcept { return facts_->url; }
    /// Problem type URN (RFC 8555 section 6.7), such as "urn:ietf:params:acme:error:caa"; nullopt
    /// when the CA sent no problem document.
    const std::optional<std::string> &problem_type() const noexcept { return facts_->problem_type; }
    /// The CA's whole problem document (RFC 9457) as JSON; nullopt when it sent none.
    const std::optional<std::string> &problem_json() const noexcept { return facts_->problem_json; }
    /// Page of the CA that helps a person to solve the problem. Untrusted text: show it, do not
    /// fetch it.
    const std::optional<std::string> &help_url() const noexcept { return facts_->help_url; }
    /// One error for each identifier that the CA rejected (RFC 8555 section 6.7.1).
    const std::vector<error> &subproblems() const noexcept { return facts_->subproblems; }

private:
    struct facts {
        explicit facts(acme::status its_status) : status(its_status) {}

        explicit facts(const acme_error_t *shown)
            : status(static_cast<acme::status>(acme_error_status(shown))),
              permanent(acme_error_is_permanent(shown) != 0),
              retry_at(detail::to_optional_time(acme_error_retry_at(shown))),
              identifier(detail::to_optional(acme_error_identifier(shown))),
              url(detail::to_optional(acme_error_url(shown))),
              problem_type(detail::to_optional(acme_error_problem_type(shown))),
              problem_json(detail::to_optional(acme_error_problem_json(shown))),
              help_url(detail::to_optional(acme_error_help_url(shown)))
        {
            const std::size_t count = acme_error_subproblem_count(shown);
            for (std::size_t i = 0; i < count; i++)
                subproblems.emplace_back(acme_error_subproblem(shown, i));
        }

        acme::status status;
        bool permanent = false;
        std::optional<time_point> retry_at;
        std::optional<std::string> identifier, url, problem_type, problem_json, help_url;
        std::vector<error> subproblems;
    };

    // Shared, so that copying an exception cannot throw another one.
    std::shared_ptr<const facts> facts_;
};

/// An argument is missing, malformed or out of range, or is not PEM or DER. No request was sent.
class invalid_argument : public error { public: using error::error; };
/// The object is in a state that does not allow this call; or the library has a bug.
class misuse : public error { public: using error::error; };
/// The feature is not compiled in, or this CA does not offer it.
class unsupported : public error { public: using error::error; };
/// A cryptographic operation failed, or a passphrase is wrong.
class crypto_error : public error { public: using error::error; };
/// The CA sent no response: name resolution, TCP, TLS or the timeout of one request.
class transport_error : public error { public: using error::error; };
/// The CA's response violates RFC 8555, or exceeds a limit of the library.
class protocol_error : public error { public: using error::error; };
/// A URL of the CA was refused: it is not https, or its host is not allowed.
class policy_error : public error { public: using error::error; };
/// The operation's own timeout expired, or the CA needs more time; see retry_at().
class operation_timeout : public error { public: using error::error; };
/// The CA refused; problem_json() is its problem document.
class problem_error : public error { public: using error::error; };
/// The CA failed: serverInternal or HTTP status 5xx, in a response, a challenge or an order. A
/// retry may help.
class server_error : public problem_error { public: using problem_error::problem_error; };
/// The CA refused for now; retry_at() is the earliest time of a useful retry, if the CA named it.
class rate_limited : public problem_error { public: using problem_error::problem_error; };
/// The CA requires agreement to its terms of service; see client::terms_url().
class terms_not_agreed : public problem_error { public: using problem_error::problem_error; };
/// The CA requires an external account binding; see client_options::eab_key_id.
class eab_required : public problem_error { public: using problem_error::problem_error; };
/// The account is unknown to the CA, deactivated or revoked.
class account_error : public problem_error { public: using problem_error::problem_error; };
/// The CA could not validate a challenge; identifier() is the name or address of that challenge.
class challenge_failed : public problem_error { public: using problem_error::problem_error; };
/// The order became invalid, or contains an identifier that the CA rejects.
class order_rejected : public problem_error { public: using problem_error::problem_error; };
/// The CA issued a certificate that does not match the order.
class certificate_error : public error { public: using error::error; };
/// Your handler could not publish a challenge or sign; the message is the handler's own.
class host_error : public error { public: using error::error; };
/// operation::cancel() was called.
class canceled : public error { public: using error::error; };
/// A store could not read or write a record, or a record cannot be used. Its old content is
/// unchanged.
class store_error : public error { public: using error::error; };
/// Another program or thread has changed the same record of a store meanwhile.
class store_conflict : public error { public: using error::error; };

namespace detail {

/// Throws an error of the C API as the class that belongs to its status.
[[noreturn]] inline void throw_error(const acme_error_t *shown)
{
    switch (static_cast<status>(acme_error_status(shown))) {
    case status::invalid_argument:
    case status::parse: throw invalid_argument(shown);
    case status::misuse:
    case status::panic: throw misuse(shown);
    case status::unsupported: throw unsupported(shown);
    case status::crypto: throw crypto_error(shown);
    case status::transport: throw transport_error(shown);
    case status::protocol: throw protocol_error(shown);
    case status::server: throw server_error(shown);
    case status::policy: throw policy_error(shown);
    case status::timeout: throw operation_timeout(shown);
    case status::problem: throw problem_error(shown);
    case status::rate_limited: throw rate_limited(shown);
    case status::terms: throw terms_not_agreed(shown);
    case status::eab_required: throw eab_required(shown);
    case status::account: throw account_error(shown);
    case status::challenge: throw challenge_failed(shown);
    case status::order: throw order_rejected(shown);
    case status::certificate: throw certificate_error(shown);
    case status::host: throw host_error(shown);
    case status::canceled: throw canceled(shown);
    case status::store: throw store_error(shown);
    case status::conflict: throw store_conflict(shown);
    case status::ok: break;
    }
    throw error(shown);
}

/// Throws the last error of this thread if result, which a C function has just returned, is a
/// failure. Otherwise returns result.
inline int check(int result)
{
    if (result < 0)
        throw_error(acme_last_error());
    return result;
}

/// Returns a handle that a function of the C API makes and writes to its last argument.
template <typename T, typename Function, typename... Arguments>
T *make(Function function, Arguments... arguments)
{
    T *made = nullptr;
    check(function(arguments..., &made));
    return made;
}

/// Returns the text for C. Throws if the text contains a NUL, because C would end it there.
inline const char *to_c(const std::string &text, const char *name)
{
    if (text.find('\0') != std::string::npos)
        throw invalid_argument(status::invalid_argument, std::string(name) + " has a NUL in it");
    return text.c_str();
}

inline const char *to_c(const std::optional<std::string> &text, const char *name)
{
    return text ? to_c(*text, name) : nullptr;
}

/// A list of texts for C; holds pointers into the list that it is made from.
class texts {
public:
    texts(const std::vector<std::string> &list, const char *name)
    {
        pointers_.reserve(list.size());
        for (const std::string &text : list)
            pointers_.push_back(to_c(text, name));
    }

    /// Makes a list in which NULL stands for each empty text.
    static texts with_gaps(const std::vector<std::string> &list, const char *name)
    {
        texts made(list, name);
        for (const char *&pointer : made.pointers_)
            pointer = *pointer ? pointer : nullptr;
        return made;
    }

    const char *const *data() const { return pointers_.empty() ? nullptr : pointers_.data(); }
    std::size_t size() const { return pointers_.size(); }

private:
    std::vector<const char *> pointers_;
};

/// Returns a number of seconds for C; 0 is the default.
inline std::size_t to_c(std::chrono::seconds time, const char *name)
{
    if (time.count() < 0)
        throw invalid_argument(status::invalid_argument, std::string(name) + " is negative");
    return static_cast<std::size_t>(time.count());
}

/// Returns a date in RFC 3339 format. The day is computed as in Howard Hinnant's "chrono-Compatible
/// Low-Level Date Algorithms": gmtime() is not thread-safe, and C++17 has no calendar.
inline std::string to_date(time_point moment)
{
    using days = std::chrono::duration<std::int64_t, std::ratio<86400>>;
    const auto since = std::chrono::floor<std::chrono::seconds>(moment.time_since_epoch());
    const auto day_number = std::chrono::floor<days>(since);
    const auto second = static_cast<int>((since - day_number).count());
    const std::int64_t day = day_number.count() + 719468;  // since 0000-03-01
    const std::int64_t era = (day >= 0 ? day : day - 146096) / 146097;
    const std::int64_t of_era = day - era * 146097;
    const std::int64_t year_of_era =
        (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    const std::int64_t of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    const std::int64_t from_march = (5 * of_year + 2) / 153;
    const auto month = static_cast<int>(from_march < 10 ? from_march + 3 : from_march - 9);
    const auto year = static_cast<int>(year_of_era + era * 400 + (month <= 2));
    const auto of_month = static_cast<int>(of_year - (153 * from_march + 2) / 5 + 1);
    char text[80];
    std::snprintf(text, sizeof text, "%04d-%02d-%02dT%02d:%02d:%02dZ", year, month, of_month,
                  second / 3600, second / 60 % 60, second % 60);
    return text;
}

inline std::optional<std::string> to_date(const std::optional<time_point> &moment)
{
    return moment ? std::optional<std::string>(to_date(*moment)) : std::nullopt;
}

/// Copies bytes of C; data may be NULL.
inline bytes to_bytes(const std::uint8_t *data, std::size_t size)
{
    return data ? bytes(data, data + size) : bytes();
}

/// Name of a handle's class in messages, and the C function that frees the handle.
template <typename T> struct kind;
template <> struct kind<acme_key_t> {
    static constexpr const char *name = "acme::key";
    static void free(acme_key_t *key) noexcept { acme_key_free(key); }
};
template <> struct kind<acme_csr_t> {
    static constexpr const char *name = "acme::csr";
    static void free(acme_csr_t *csr) noexcept { acme_csr_free(csr); }
};
template <> struct kind<acme_cert_t> {
    static constexpr const char *name = "acme::certificate";
    static void free(acme_cert_t *cert) noexcept { acme_cert_free(cert); }
};
template <> struct kind<acme_client_t> {
    static constexpr const char *name = "acme::client";
    static void free(acme_client_t *client) noexcept { acme_client_free(client); }
};
template <> struct kind<acme_op_t> {
    static constexpr const char *name = "acme::operation";
    static void free(acme_op_t *op) noexcept { acme_op_free(op); }
};
template <> struct kind<acme_driver_t> {
    static constexpr const char *name = "acme::driver";
    static void free(acme_driver_t *driver) noexcept { acme_driver_free(driver); }
};
template <> struct kind<acme_manager_t> {
    static constexpr const char *name = "acme::manager";
    static void free(acme_manager_t *manager) noexcept { acme_manager_free(manager); }
};
template <> struct kind<acme_store_t> {
    static constexpr const char *name = "acme::store";
    static void free(acme_store_t *store) noexcept { acme_store_free(store); }
};

/// Base of all handles, which can be moved but not copied. The pointer inside is shared for two
/// reasons: a key that comes from a certificate or an operation keeps its owner alive, and an
/// operation that its own handler destroys lives until run() has returned.
template <typename T> class handle {
public:
    /// Takes over a handle of the C API: the destructor of this object frees it.
    explicit handle(T *owned) : pointer_(owned, &kind<T>::free) {}

    handle(handle &&) noexcept = default;
    handle &operator=(handle &&) noexcept = default;
    handle(const handle &) = delete;
    handle &operator=(const handle &) = delete;

    /// Whether the handle may be used. False after it was moved from.
    explicit operator bool() const noexcept { return pointer_ != nullptr; }

    /// Handle for functions of the C API. This object still owns it: do not free it.
    T *native_handle() const { return shared().get(); }

protected:
    explicit handle(std::shared_ptr<T> shared) noexcept : pointer_(std::move(shared)) {}
    ~handle() = default;

    const std::shared_ptr<T> &shared() const
    {
        if (!pointer_)
            throw misuse(status::misuse,
                         std::string("this ") + kind<T>::name + " is empty: it was moved from");
        return pointer_;
    }

    /// Returns a handle that this one owns. It keeps this one alive.
    template <typename Shown> std::shared_ptr<Shown> alias(const Shown *shown) const
    {
        // A const pointer of the C API must not be freed; shared_ptr does not free an alias.
        return std::shared_ptr<Shown>(shared(), const_cast<Shown *>(shown));
    }

private:
    std::shared_ptr<T> pointer_;
};

}  // namespace detail

// --- keys ---------------------------------------------------------------------------------------

/// A private key of an account or a certificate. The library wipes it from memory after its last
/// use.
class key : public detail::handle<acme_key_t> {
public:
    using handle::handle;

    /// Makes a key. An RSA key takes up to several seconds: do not make one on the thread of an
    /// event loop.
    static key generate(key_type type = key_type::p256)
    {
        return key(detail::make<acme_key_t>(acme_key_generate, static_cast<int>(type)));
    }

    /// Reads an unencrypted PEM or DER key (PKCS#8, SEC 1 or PKCS#1).
    static key parse(std::string_view data)
    {
        return key(detail::make<acme_key_t>(acme_key_parse, data.data(), data.size()));
    }

    /// Reads a PEM key that is encrypted with a passphrase.
    static key parse_encrypted(std::string_view data, const std::string &passphrase)
    {
        return key(detail::make<acme_key_t>(acme_key_parse_encrypted, data.data(), data.size(),
                                            detail::to_c(passphrase, "passphrase")));
    }

    /// Makes a key from its public half, PEM or DER, when the private half is outside the process:
    /// in an HSM, a KMS or an agent. The steps of operations that use it include step::sign;
    /// operation::run() calls handlers::sign.
    static key from_public(std::string_view data)
    {
        return key(detail::make<acme_key_t>(acme_key_from_public, data.data(), data.size()));
    }

    /// The key as PKCS#8 PEM; nullopt when its private half is outside the process. The text is
    /// secret: store it in a file of mode 0600. It ends with a NUL and is wiped when the key is
    /// freed.
    std::optional<std::string_view> pem() const &
    {
        const char *text = acme_key_pem(native_handle());
        return text ? std::optional<std::string_view>(text) : std::nullopt;
    }
    std::optional<std::string_view> pem() const && = delete;

    /// Kind of key.
    key_type type() const { return static_cast<key_type>(acme_key_type(native_handle())); }

    /// RFC 7638 thumbprint, base64url; see http01_answer(). Not secret.
    std::string thumbprint() const
    {
        return detail::to_string(acme_key_thumbprint(native_handle()));
    }

private:
    friend class certificate;
    friend class operation;
};

/// A certificate signing request (PKCS#10, RFC 2986).
class csr : public detail::handle<acme_csr_t> {
public:
    using handle::handle;

    /// Makes a request for names (DNS names, wildcards, IP addresses) and signs it with signer.
    static csr create(const key &signer, const std::vector<std::string> &names)
    {
        const detail::texts list(names, "names");
        return csr(detail::make<acme_csr_t>(acme_csr_create, signer.native_handle(), list.data(),
                                            list.size()));
    }

    /// Reads a PEM or DER request that was made elsewhere: the key never enters the library.
    static csr parse(std::string_view data)
    {
        return csr(detail::make<acme_csr_t>(acme_csr_parse, data.data(), data.size()));
    }

    /// The request as DER.
    bytes der() const
    {
        std::size_t size = 0;
        const std::uint8_t *data = acme_csr_der(native_handle(), &size);
        return detail::to_bytes(data, size);
    }
};

// --- data of an operation -----------------------------------------------------------------------
// These structs are copies: they stay valid for as long as you keep them.

/// A challenge to publish. Texts that its type does not use are empty.
struct challenge {
    /// "http-01", "dns-01", "tls-alpn-01", "dns-account-01", "dns-persist-01", "onion-csr-01" or
    /// "device-attest-01".
    std::string type;
    /// DNS name (without "*.") or IP address to validate.
    std::string identifier;
    /// The CA's token: 22 to 512 base64url characters, checked. Empty for the types without a
    /// token: "dns-persist-01" and "onion-csr-01".
    std::string token;
    /// http-01 (RFC 8555 section 8.3): the body to serve at http_path on port 80 of identifier.
    /// Empty for the types without a token.
    std::string key_authorization;
    /// http-01: "/.well-known/acme-challenge/" and the token.
    std::string http_path;
    /// dns-01 (RFC 8555 section 8.4), dns-account-01 and dns-persist-01: name of the TXT record to
    /// publish, with dns_value. The record of dns-persist-01 names the account and stays:
    /// step::unpublish does not list it.
    std::string dns_name;
    /// Content of the TXT record: 43 base64url characters; for dns-persist-01 a text that may be
    /// longer than the 255 bytes of one character-string of a TXT record.
    std::string dns_value;
    /// tls-alpn-01 (RFC 8737): digest of 32 bytes; see certificate::tls_alpn().
    std::optional<std::array<std::uint8_t, 32>> tls_alpn_digest;
    /// tls-alpn-01: server name in the CA's handshake: identifier, or the reverse name of an IP
    /// address (RFC 8738 section 6).
    std::string tls_alpn_name;
    /// onion-csr-01 (RFC 9799) and device-attest-01: the challenge object as JSON, for making the
    /// payload of the response; see operation::respond_with().
    std::string json;
    /// True: the record stays published after the validation, for later orders (dns-persist-01).
    /// step::unpublish does not show the challenge, and a program must not remove the record by
    /// itself. False: the record is removed.
    bool persistent = false;
    /// The C struct that this one was copied from, for operation::respond_with() and for functions
    /// in C. Valid until the next poll of the operation, or until the handler that received the
    /// challenge returns.
    const acme_challenge_t *shown = nullptr;
};

/// One HTTP header field.
struct header {
    /// Name of the field.
    std::string name;
    /// Value of the field.
    std::string value;
};

/// An HTTP request to send.
struct http_request {
    /// Identifies the request to acme_op_response_*(); not 0.
    std::uint64_t id = 0;
    /// "GET" or "POST".
    std::string method;
    /// Absolute URL; send it byte for byte. The next three members are its parts, for programs
    /// without a URL parser.
    std::string url;
    /// Host name or address; an IPv6 address has no brackets.
    std::string host;
    /// Path and query.
    std::string path;
    /// TCP port. The scheme is https unless allow_http_loopback is set and url says http.
    std::uint16_t port = 0;
    /// Headers to send besides Host and Content-Length.
    std::vector<header> headers;
    /// Body to send; empty for GET.
    std::string body;
};

/// Something to sign with a key that is outside the process (key::from_public()).
struct sign_request {
    /// Identifies this request to acme_op_signed(); not 0.
    std::uint64_t id = 0;
    /// The key::thumbprint() of the key.
    std::string key_thumbprint;
    /// Algorithm (RFC 7518 section 3.1): "ES256" is ECDSA on P-256 with SHA-256, "RS256" is
    /// RSASSA-PKCS1-v1_5 with SHA-256, "EdDSA" is Ed25519.
    std::string algorithm;
    /// Bytes to sign, not hashed yet.
    bytes input;
};

/// When to renew (RFC 9773).
struct renewal_info {
    /// Start of the window to renew in; in the past: renew now.
    time_point window_start{};
    /// End of the window.
    time_point window_end{};
    /// The time in the window to renew this certificate at: the same each time, while the window
    /// stays.
    time_point renew_at{};
    /// Time to ask the CA again, because it may move the window.
    time_point check_again_at{};
    /// URL of a page that explains the window, or nullopt. Untrusted text.
    std::optional<std::string> explanation_url;
    /// True: the window is from the CA. False: it is calculated from the certificate's lifetime.
    bool from_ca = false;
};

namespace detail {

inline challenge from_c(const acme_challenge_t *shown)
{
    challenge made;
    made.type = to_string(shown->type);
    made.identifier = to_string(shown->identifier);
    made.token = to_string(shown->token);
    made.key_authorization = to_string(shown->key_authorization);
    made.http_path = to_string(shown->http_path);
    made.dns_name = to_string(shown->dns_name);
    made.dns_value = to_string(shown->dns_value);
    if (shown->tls_alpn_digest) {
        made.tls_alpn_digest.emplace();
        for (std::size_t i = 0; i < made.tls_alpn_digest->size(); i++)
            (*made.tls_alpn_digest)[i] = shown->tls_alpn_digest[i];
    }
    made.tls_alpn_name = to_string(shown->tls_alpn_name);
    made.json = to_string(shown->json);
    made.persistent = shown->persistent != 0;
    made.shown = shown;
    return made;
}

inline http_request from_c(const acme_http_request_t *shown)
{
    http_request made;
    made.id = shown->id;
    made.method = to_string(shown->method);
    made.url = to_string(shown->url);
    made.host = to_string(shown->host);
    made.path = to_string(shown->path);
    made.port = shown->port;
    for (std::size_t i = 0; i < shown->header_count; i++)
        made.headers.push_back({to_string(shown->headers[i].name),
                                to_string(shown->headers[i].value)});
    if (shown->body_size)
        made.body.assign(reinterpret_cast<const char *>(shown->body), shown->body_size);
    return made;
}

inline sign_request from_c(const acme_sign_request_t *shown)
{
    sign_request made;
    made.id = shown->id;
    made.key_thumbprint = to_string(shown->key_thumbprint);
    made.algorithm = to_string(shown->algorithm);
    made.input = to_bytes(shown->input, shown->input_size);
    return made;
}

inline renewal_info from_c(const acme_renewal_info_t *shown)
{
    renewal_info made;
    made.window_start = to_time(shown->window_start);
    made.window_end = to_time(shown->window_end);
    made.renew_at = to_time(shown->renew_at);
    made.check_again_at = to_time(shown->check_again_at);
    made.explanation_url = to_optional(shown->explanation_url);
    made.from_ca = shown->from_ca != 0;
    return made;
}

/// Copies a C struct of an operation; throws misuse for NULL, when the operation has no such
/// struct.
template <typename Shown> auto shown_or_throw(const Shown *shown, const char *what)
{
    if (!shown)
        throw misuse(status::misuse, std::string("the operation has no ") + what + " yet");
    return from_c(shown);
}

}  // namespace detail

// --- certificates -------------------------------------------------------------------------------

/// Options of certificate::write_files(). combined or folder is required, and with folder at least
/// one of its files.
struct files_options {
    /// Path of one file with the key, the certificate and its issuers, for HAProxy, Postfix and
    /// nginx. The folder above it must exist.
    std::optional<std::string> combined = {};
    /// Path of a folder for the files below. The library makes it: a symbolic link to a hidden
    /// folder beside it, which each call replaces. The folder above it must exist.
    std::optional<std::string> folder = {};
    /// Name of the file with the certificate and its issuers, such as "chain.pem".
    std::optional<std::string> chain = {};
    /// Name of the file with the key.
    std::optional<std::string> key = {};
    /// Name of the file with the certificate alone.
    std::optional<std::string> certificate = {};
    /// Name of the file with the issuers alone.
    std::optional<std::string> issuers = {};
    /// Mode of the files without the key; default 0644.
    std::size_t mode = 0;
    /// Mode of the files with the key; default 0600, and at most 0770.
    std::size_t key_mode = 0;
    /// Number of the user who gets the files; default: that of the process.
    std::size_t owner = 0;
    /// Number of the group that gets the files; default: that of the process.
    std::size_t group = 0;
    /// Key of a certificate that has none (certificate::key()), because it was parsed.
    const acme::key *private_key = nullptr;
};

/// A certificate chain, leaf first, with its private key when the library has it.
class certificate : public detail::handle<acme_cert_t> {
public:
    using handle::handle;

    /// Reads a PEM chain, leaf first. Throws if it contains anything but certificates.
    static certificate parse(std::string_view pem)
    {
        return certificate(detail::make<acme_cert_t>(acme_cert_parse, pem.data(), pem.size()));
    }

    /// Makes the self-signed certificate of a tls-alpn-01 challenge (RFC 8737). Present it in
    /// handshakes for challenge::tls_alpn_name that negotiate "acme-tls/1", and in no others.
    /// Without key, the certificate gets a fresh key.
    static certificate tls_alpn(const challenge &wanted, const acme::key *key = nullptr)
    {
        // The struct of a newer library may be longer: the library then reads zeros in its new
        // members.
        struct {
            acme_challenge_t known;
            unsigned char newer[256];
        } shown = {};
        shown.known.type = detail::to_c(wanted.type, "type");
        shown.known.identifier = detail::to_c(wanted.identifier, "identifier");
        if (wanted.tls_alpn_digest)
            shown.known.tls_alpn_digest = wanted.tls_alpn_digest->data();
        shown.known.tls_alpn_name = detail::to_c(wanted.tls_alpn_name, "tls_alpn_name");
        return certificate(detail::make<acme_cert_t>(acme_cert_create_tls_alpn, &shown.known,
                                                     key ? key->native_handle() : nullptr));
    }

    /// The whole chain as PEM, leaf first; many web servers call this "fullchain".
    std::string chain_pem() const
    {
        return detail::to_string(acme_cert_chain_pem(native_handle()));
    }

    /// One certificate of the chain as DER: 0 is the leaf; nullopt past the end.
    std::optional<bytes> der(std::size_t index = 0) const
    {
        std::size_t size = 0;
        const std::uint8_t *data = acme_cert_der(native_handle(), index, &size);
        return data ? std::optional<bytes>(detail::to_bytes(data, size)) : std::nullopt;
    }

    /// The certificate's private key; nullopt when the certificate was parsed, or was ordered with
    /// a request made elsewhere.
    std::optional<acme::key> key() const
    {
        const acme_key_t *shown = acme_cert_key(native_handle());
        return shown ? std::optional<acme::key>(acme::key(alias(shown))) : std::nullopt;
    }

    /// Whether key is the leaf's key. Checks a stored certificate and a stored key, for example.
    bool is_for(const acme::key &key) const
    {
        return acme_cert_is_for(native_handle(), key.native_handle()) != 0;
    }

    /// Writes the certificate with its key into files for servers. If the program is killed or the
    /// power fails, a server finds all old files or all new ones, and a key always fits its
    /// certificate. Tell the server to read the files after this has returned: one that reads two
    /// files of the folder at the very moment of the change can get an old and a new one, but never
    /// with combined. Blocks. Throws a store_error if a file cannot be written; the old ones stay.
    void write_files(const files_options &options) const
    {
        acme_files_options_t c = {};

        c.size = sizeof c;
        c.combined = detail::to_c(options.combined, "combined");
        c.folder = detail::to_c(options.folder, "folder");
        c.chain = detail::to_c(options.chain, "chain");
        c.key = detail::to_c(options.key, "key");
        c.certificate = detail::to_c(options.certificate, "certificate");
        c.issuers = detail::to_c(options.issuers, "issuers");
        c.mode = options.mode;
        c.key_mode = options.key_mode;
        c.owner = options.owner;
        c.group = options.group;
        c.private_key = options.private_key ? options.private_key->native_handle() : nullptr;
        detail::check(acme_cert_write_files(native_handle(), &c));
    }

    /// The leaf's DNS names and IP addresses.
    std::vector<std::string> names() const
    {
        std::vector<std::string> found;
        while (const char *name = acme_cert_name(native_handle(), found.size()))
            found.emplace_back(name);
        return found;
    }

    /// The leaf's serial number, in lower-case hexadecimal digits.
    std::string serial() const { return detail::to_string(acme_cert_serial(native_handle())); }

    /// SHA-256 of the leaf, in lower-case hexadecimal digits.
    std::string fingerprint() const
    {
        return detail::to_string(acme_cert_fingerprint(native_handle()));
    }

    /// Kind of the leaf's key; nullopt for kinds that the library does not know.
    std::optional<acme::key_type> key_type() const
    {
        const int type = acme_cert_key_type(native_handle());
        return type ? std::optional(static_cast<acme::key_type>(type)) : std::nullopt;
    }

    /// Identifier for renewal information (RFC 9773 section 4.1); nullopt when the leaf has no
    /// authority key identifier.
    std::optional<std::string> ari_id() const
    {
        return detail::to_optional(acme_cert_ari_id(native_handle()));
    }

    /// Start of the leaf's validity.
    time_point not_before() const { return detail::to_time(acme_cert_not_before(native_handle())); }

    /// End of the leaf's validity.
    time_point not_after() const { return detail::to_time(acme_cert_not_after(native_handle())); }

    /// Whole days until the leaf expires; negative after that. now: nullopt for the system clock.
    int days_left(std::optional<time_point> now = std::nullopt) const
    {
        return acme_cert_days_left(native_handle(), detail::from_time(now));
    }

private:
    friend class manager;
};

/// Returns when to try again to obtain or renew a certificate: after 1 minute, 10 minutes, 100
/// minutes, then every day. The result is never before failed->retry_at(), and at least a day away
/// after a permanent failure.
///
/// After a failure, tries is the number of failures in a row and failed is the error. After a
/// success, tries is the number of renewals in a row and failed is nullptr. A success sets the
/// number of failures to 0; a check that finds the renewal not due yet sets both numbers to 0.
/// current is the certificate in use, after a success the new one: the delay is shorter if that
/// certificate would expire meanwhile. now: nullopt for the system clock. See acme_next_try().
inline time_point next_try(std::size_t tries, const error *failed = nullptr,
                           const certificate *current = nullptr,
                           std::optional<time_point> now = std::nullopt)
{
    const std::optional<time_point> retry_at = failed ? failed->retry_at() : std::nullopt;
    return detail::to_time(acme_next_try(tries, failed && failed->permanent(),
                                         detail::from_time(retry_at),
                                         current ? current->native_handle() : nullptr,
                                         detail::from_time(now)));
}

// --- stores -------------------------------------------------------------------------------------

/// A record of a store.
struct record {
    /// Version, not 0. Each write changes it, and no version of a record comes back.
    std::uint64_t version = 0;
    /// Value: at most 262144 bytes. It contains keys: protect it.
    std::string value;
};

/// The functions of a store of your own, for store::custom(): for a database, for instance. The
/// library calls them on threads of a driver, or in operation::access_store(), operation::run() and
/// the functions of store; several at a time. They may block.
///
/// The name of a record is text without control characters, of at most 512 bytes. An exception of a
/// function fails the operation with a store_error, a store_conflict with a store_conflict; its
/// message is lost.
class record_store {
public:
    virtual ~record_store() = default;

    /// Reads a record; nullopt: there is no record of this name.
    virtual std::optional<record> get(const std::string &name) = 0;

    /// Writes a record if its version is still expected (0: if there is no record of this name), and
    /// returns its new version. value nullopt: removes the record, and returns anything. If the
    /// record has another version: changes nothing, and throws a store_conflict.
    virtual std::uint64_t put(const std::string &name, std::uint64_t expected,
                              std::optional<std::string_view> value) = 0;

    /// Lists the names that begin with prefix and come after the name after, in the order of their
    /// bytes, at most limit of them.
    virtual std::vector<std::string> list(const std::string &prefix, const std::string &after,
                                          std::size_t limit) = 0;

    /// Returns a number that changes whenever a record changes: a manager calls this once a minute, to
    /// notice certificates that another program has renewed. nullopt: not known.
    virtual std::optional<std::uint64_t> revision() { return std::nullopt; }
};

/// A key of store::sealed(): 32 random bytes.
using sealing_key = std::array<std::uint8_t, 32>;

/// Where accounts, keys, certificates and orders in progress are kept. Any thread may use it; an
/// operation or a client that uses it keeps it alive. See client_options::store.
class store : public detail::handle<acme_store_t> {
public:
    using handle::handle;

    /// Opens a folder as a store for one CA; creates it with mode 0700 if it does not exist. Keys
    /// and certificates are in files that servers can read: NAME.key.pem and NAME.chain.pem.
    /// Programs, threads and forked processes may share the folder. The one above it must exist.
    static store directory(const std::string &path)
    {
        return store(detail::make<acme_store_t>(acme_store_directory, detail::to_c(path, "path")));
    }

    /// Creates an empty store in memory, for tests and for programs that keep what they need
    /// elsewhere.
    static store memory()
    {
        return store(detail::make<acme_store_t>(acme_store_memory));
    }

    /// Creates a store of your own functions. check() shows whether they keep their promises.
    static store custom(std::shared_ptr<record_store> own)
    {
        if (!own)
            throw invalid_argument(status::invalid_argument, "own is nullptr");
        auto user = std::make_unique<std::shared_ptr<record_store>>(std::move(own));
        acme_store_functions_t functions = {};

        functions.size = sizeof functions;
        functions.get = get;
        functions.put = put;
        functions.list = list;
        functions.revision = revision;
        functions.free = free;
        functions.user = user.get();
        store made(detail::make<acme_store_t>(acme_store_custom, &functions));
        user.release();  // freed by free()
        return made;
    }

    /// Creates a store that encrypts the values of another one (AES-256-GCM). The other store sees
    /// the names, sizes and versions of records only, and no record passes for another one. A record
    /// that cannot be opened is never overwritten: store_error, with the id of the key that is
    /// missing, or "damaged". In a folder, sealed records are files NAME.record, which no server can
    /// read.
    ///
    /// key: 32 random bytes; without them the records are lost. old_key: an earlier key, or nullptr:
    /// records that it has sealed can be read; key seals them at the next write, or in reseal().
    /// accept_plain: whether values that are not sealed are read, and sealed like those of old_key,
    /// for the change to a sealed store only: a person who can write the store could plant one.
    static store sealed(const store &inner, const sealing_key &key,
                        const sealing_key *old_key = nullptr, bool accept_plain = false)
    {
        const acme_store_t *other = inner.native_handle();
        return store(detail::make<acme_store_t>(acme_store_sealed, other, key.data(),
                                                old_key ? old_key->data() : nullptr,
                                                accept_plain ? 1 : 0));
    }

    /// Seals each record of a sealed store with its key that is sealed with old_key, or plain and
    /// accepted: afterwards they are not needed any more. Blocks. Other programs may use the store.
    void reseal() const { detail::check(acme_store_reseal(native_handle())); }

    /// Checks that the store keeps its promises: versions, comparison, removal, lists. Writes and
    /// removes records whose names begin with "check/". Blocks. Throws a misuse that says which
    /// promise is broken.
    void check() const { detail::check(acme_store_check(native_handle())); }

    /// Reads a certificate, with its key. name is the certificate's name in the store, usually the
    /// first of its names. Blocks. Sends no request: for a server that starts, while it asks the CA
    /// whether a renewal is due. nullopt: the store has no such certificate, or it does not fit its
    /// key.
    std::optional<certificate> find(const std::string &directory_url, const std::string &name) const
    {
        const acme_store_t *self = native_handle();
        acme_cert_t *found = detail::make<acme_cert_t>(
            acme_store_cert, self, detail::to_c(directory_url, "directory_url"),
            detail::to_c(name, "name"));
        return found ? std::optional<certificate>(certificate(found)) : std::nullopt;
    }

    /// Begins work of the program itself: while it changes files of a folder, for instance, no other
    /// program works in the folder. Operations of this program go on. name is the program's own name
    /// for the work, such as a file's. Returns at once: false if another program is at work in the
    /// folder, or another thread on this name; try again in a moment. End the work with release().
    bool claim(const std::string &name) const
    {
        const int result = acme_store_claim(native_handle(), detail::to_c(name, "name"));

        if (result == ACME_ERR_CONFLICT)
            return false;
        detail::check(result);
        return true;
    }

    /// Ends the work that claim() began. A child of fork() calls it, too, to leave its parent's work
    /// to the parent. Does nothing if there is no such work.
    void release(const std::string &name) const
    {
        detail::check(acme_store_release(native_handle(), detail::to_c(name, "name")));
    }

private:
    /// Calls a function. No exception may pass the library's own frames.
    template <typename Work> static int guard(void *user, Work work) noexcept
    {
        try {
            work(**static_cast<std::shared_ptr<record_store> *>(user));
            return ACME_OK;
        } catch (const store_conflict &) {
            return ACME_ERR_CONFLICT;
        } catch (...) {
            return ACME_ERR_STORE;
        }
    }

    static int get(const char *name, acme_record_t *found, void *user) noexcept
    {
        return guard(user, [&](record_store &own) {
            if (const std::optional<record> got = own.get(name))
                detail::check(acme_record_set(found, got->version, got->value.data(),
                                              got->value.size()));
        });
    }

    static int put(const char *name, std::uint64_t expected, const void *value, std::size_t size,
                   std::uint64_t *version, void *user) noexcept
    {
        return guard(user, [&](record_store &own) {
            std::optional<std::string_view> given;
            if (value)
                given.emplace(static_cast<const char *>(value), size);
            *version = own.put(name, expected, given);
        });
    }

    static int list(const char *prefix, const char *after, std::size_t limit, acme_names_t *found,
                    void *user) noexcept
    {
        return guard(user, [&](record_store &own) {
            for (const std::string &name : own.list(prefix, after, limit))
                detail::check(acme_names_add(found, detail::to_c(name, "name")));
        });
    }

    static int revision(std::uint64_t *revision, void *user) noexcept
    {
        return guard(user, [&](record_store &own) { *revision = own.revision().value_or(0); });
    }

    static void free(void *user) noexcept
    {
        delete static_cast<std::shared_ptr<record_store> *>(user);
    }
};

// --- options ------------------------------------------------------------------------------------
// Aggregates: a member that is not set has its default. A call reads its options before it returns;
// the library keeps the keys and certificates alive that they point to.
//
// The members have the names and the meaning of the C struct of the same name. tests/cpp/check_wrapper.py
// --write makes their comments from those of the C struct.

/// Options of client. directory_url is required, and account_key or store.
struct client_options {
    /// Required. URL of the CA's directory, such as ACME_LETSENCRYPT.
    std::string directory_url = {};
    /// Required unless store is set. The account's key. Store its PEM before the first request: the
    /// key is the account.
    const acme::key *account_key = nullptr;
    /// The account's URL from an earlier client::account_url(); saves a request.
    std::optional<std::string> account_url = {};
    /// Contacts of the account: "mailto:..." URLs.
    std::vector<std::string> contacts = {};
    /// True: the operator agrees to the CA's terms of service. False: the library finds an existing
    /// account, but creates no new one.
    bool terms_agreed = false;
    /// External account binding (RFC 8555 section 7.3.4): the key id from the CA.
    std::optional<std::string> eab_key_id = {};
    /// External account binding: the HMAC key from the CA, base64url.
    std::optional<std::string> eab_hmac_key = {};
    /// External account binding: "HS256" (the default), "HS384" or "HS512".
    std::optional<std::string> eab_algorithm = {};
    /// User agent to send before the library's own, such as "exampled/1.2".
    std::optional<std::string> user_agent = {};
    /// Built-in client: PEM file of the roots to trust for the CA's own HTTPS instead of the
    /// system's. the constructor of client reads it; a new connection reads it again if it was
    /// replaced. A file of at most 64 KiB stays in memory, so the program may delete it, lose the
    /// right to read it, or call chroot(). The library reads larger files and the system's roots
    /// while it connects: after chroot() they have to be in the new root, as have the files with
    /// which the system resolves names (/etc/resolv.conf).
    std::optional<std::string> ca_file = {};
    /// Hosts, besides the directory's own, that the CA's URLs may name. Loopback and link-local
    /// addresses are allowed only if the directory is at such an address, too.
    std::vector<std::string> allowed_hosts = {};
    /// True: allow plain http on loopback addresses, for tests.
    bool allow_http_loopback = false;
    /// Instead of terms_agreed: the operator agrees to the terms at this URL, which came from an
    /// earlier client::terms_url(). If the CA has other terms now, the library creates no account:
    /// terms_not_agreed, and client::terms_url() returns the new URL. An existing account stays
    /// usable; the library logs a warning. Excludes terms_agreed.
    std::optional<std::string> agreed_terms_url = {};
    /// Languages for the CA's messages, as in HTTP's Accept-Language, such as "de, en;q=0.5" (RFC
    /// 8555 section 6.1).
    std::optional<std::string> accept_language = {};
    /// Built-in client: directory of the roots to trust instead of the system's, as "openssl
    /// rehash" makes it. With ca_file both are trusted. The library reads the directory while it
    /// connects.
    std::optional<std::string> ca_dir = {};
    /// Built-in client: PEM file of roots to trust besides the system's, or besides ca_file and
    /// ca_dir. Read at the same times as ca_file.
    std::optional<std::string> extra_ca_file = {};
    /// Built-in client: URL of the proxy to use, "SCHEME://HOST:PORT", with "USER:PASSWORD@" before
    /// HOST if the proxy requires them, percent-encoded. SCHEME is http (CONNECT, RFC 9110 section
    /// 9.3.6; Basic, RFC 7617), https (the same, with TLS to the proxy), socks5 or socks5h (RFC
    /// 1928, RFC 1929; no difference) or socks4a (user only). The proxy resolves the CA's name. The
    /// library reads no environment variable for it. No error and no log contains the password.
    std::optional<std::string> proxy = {};
    /// Built-in client: PEM file with the certificate to send to a CA that asks for one (RFC 8446
    /// section 4.4.2), followed by its intermediate certificates. Requires client_key_file. Read
    /// once, by the constructor of client.
    std::optional<std::string> client_cert_file = {};
    /// Built-in client: PEM file with the key of client_cert_file, without a passphrase; may be the
    /// same file. Read once, by the constructor of client.
    std::optional<std::string> client_key_file = {};
    /// Built-in client: timeout of one request in seconds, from name resolution to the last byte of
    /// the response; 1 to 3600, default 30. Connecting, with proxy and TLS, may take 10 seconds of
    /// it, or a third if that is more. Only the system's resolver limits how long a name takes to
    /// resolve.
    std::chrono::seconds request_timeout = std::chrono::seconds(0);
    /// Built-in client: 4 or 6 to connect to IPv4 or IPv6 addresses only, the CA's or the proxy's.
    /// 0: to both, in the order of the system's resolver.
    int ip_version = 0;
    /// Keeps the account and its certificates; excludes account_url. The first operation reads the
    /// account's key and URL from it; if it has no key, a new one is stored before the CA gets a
    /// request. With account_key the store keeps only the certificates, and account_url may be set.
    /// See stored_as of order_options.
    const acme::store *store = nullptr;
};

/// Options of client::begin_order() and client::obtain(). names or csr is required.
struct order_options {
    /// Required unless csr is set: DNS names, "*." wildcards, IP addresses; at most 1000. With csr
    /// also "permanent-identifier:..." and "hardware-module:..." (draft-ietf-acme-device-attest).
    std::vector<std::string> names = {};
    /// Acceptable challenge types, best first (see challenge::type); default {"http-01"}. A
    /// wildcard needs "dns-01", "dns-account-01" or "dns-persist-01".
    std::vector<std::string> challenge_types = {};
    /// Certificate key, stored before; default: a fresh P-256 key, see operation::key().
    const acme::key *key = nullptr;
    /// Certificate signing request made elsewhere; excludes key. Its names are those in its
    /// subjectAltName; without that extension, its common name.
    const acme::csr *csr = nullptr;
    /// URL of an order to resume, from operation::order_url(). Keep the URL and the key until you
    /// have the certificate. If the CA no longer has a usable order there, the library places a new
    /// one.
    std::optional<std::string> order_url = {};
    /// Timeout of the operation in seconds; default 600. Time spent publishing does not count.
    std::chrono::seconds timeout = std::chrono::seconds(0);
    /// Requested start of the certificate's validity (RFC 8555 section 7.4); few CAs accept it. In
    /// whole seconds; default: the CA decides.
    std::optional<time_point> not_before = {};
    /// Requested end of the certificate's validity; as not_before.
    std::optional<time_point> not_after = {};
    /// Name of a profile that the CA offers (draft-ietf-acme-profiles); see client::profiles().
    std::optional<std::string> profile = {};
    /// True: order without the profile when the CA does not offer it or refuses it.
    bool profile_optional = false;
    /// The certificate to renew; the order names it if the CA supports that (RFC 9773 section 5).
    const certificate *replaces = nullptr;
    /// True: with replaces, finish without a certificate if its renewal is not due yet and it has
    /// the names of this order; see operation::renewal(). With replaces not for client::obtain().
    bool only_if_due = false;
    /// The chain to choose if the CA offers several; preferred_chain_by says what this text names.
    std::optional<std::string> preferred_chain = {};
    /// A chain_by value; default chain_by::root.
    chain_by preferred_chain_by = chain_by::root;
    /// True: ask for the TLS feature extension "must staple" (RFC 7633).
    bool must_staple = false;
    /// The challenge type of each name: the n-th entry is for the n-th name, and an empty text
    /// chooses from challenge_types. The list is empty (the default) or has one entry for each name.
    std::vector<std::string> name_challenge_types = {};
    /// A parent domain of some of the names, to validate in their place (RFC 9444); unsupported if
    /// the CA does not support that.
    std::optional<std::string> ancestor_domain = {};
    /// When a challenge fails, or cannot be published, deactivate the order's other pending
    /// authorizations, because CAs limit how many an account may leave pending. The order cannot be
    /// resumed afterwards. After other failures, which a later try may fix, the authorizations
    /// stay.
    bool abandon_on_failure = false;
    /// With a client that has a store, and without key and csr: the certificate's name in the
    /// store; default: the first of names. Its key, the certificate that is replaced and an order
    /// in progress come from the store; leave out replaces and order_url. Before the CA hears of
    /// it, the key is stored, and before the operation ends, the certificate. With only_if_due a
    /// certificate whose renewal is not due is the result.
    std::optional<std::string> stored_as = {};
    /// With a store: a key_type value for the certificate's key if the store has none, or with
    /// new_key; default key_type::p256.
    std::optional<acme::key_type> key_type = {};
    /// With a store. True: each renewal has a new key. False: each has the stored one.
    bool new_key = false;
};

/// Options of client::begin_authorize(). names is required.
struct authorize_options {
    /// Required: DNS names and IP addresses, at most 1000; also devices' identifiers, as in an
    /// order. No wildcards: only an order validates them.
    std::vector<std::string> names = {};
    /// Acceptable challenge types, best first (see challenge::type); default {"http-01"}.
    std::vector<std::string> challenge_types = {};
    /// True: each authorization covers the name's subdomains, too (RFC 9444); unsupported if the CA
    /// does not support that.
    bool subdomains = false;
    /// Timeout of the operation in seconds; default 600. Time spent publishing does not count.
    std::chrono::seconds timeout = std::chrono::seconds(0);
};

class operation;

/// Functions of your program that operation::run() and client::obtain() call, on the thread that
/// called run() or obtain(), before that returns. They may call anything but poll() and run() of
/// the operation that calls them.
///
/// When a handler throws, the operation ends, the records of published challenges are removed, and
/// run() or obtain() throws the same exception. An exception of unpublish does not end the
/// operation, because it must not cost the certificate: the library logs a warning and drops the
/// exception.
struct handlers {
    /// Publishes one challenge; returns when its record is in place. May block, for instance until
    /// a DNS record has spread. Required when there is a challenge to publish.
    std::function<void(const challenge &)> publish = {};
    /// Removes the record of one challenge; called for each challenge, also after publish has
    /// thrown.
    std::function<void(const challenge &)> unpublish = {};
    /// Your own blocking HTTP client instead of the built-in one: sends the request, then passes
    /// the response to operation::respond() or the reason for a failure to
    /// operation::response_failed(). After a failure the operation decides whether to send the
    /// request again.
    std::function<void(operation &, const http_request &)> send = {};
    /// Signs with a key that is outside the process (key::from_public()); returns the signature, at
    /// most 512 bytes. An ECDSA signature is DER, or the two integers r and s in full width.
    std::function<bytes(const sign_request &)> sign = {};
};

namespace detail {

/// The options as a C struct. It points into the C++ options and into this object.
struct client_arguments {
    texts contacts, allowed_hosts;
    acme_client_options_t c = {};

    const acme_client_options_t *pointer() const { return &c; }

    explicit client_arguments(const client_options &o)
        : contacts(o.contacts, "contacts"), allowed_hosts(o.allowed_hosts, "allowed_hosts")
    {
        c.size = sizeof c;
        c.directory_url = to_c(o.directory_url, "directory_url");
        c.account_key = o.account_key ? o.account_key->native_handle() : nullptr;
        c.account_url = to_c(o.account_url, "account_url");
        c.contacts = contacts.data();
        c.contact_count = contacts.size();
        c.terms_agreed = o.terms_agreed;
        c.eab_key_id = to_c(o.eab_key_id, "eab_key_id");
        c.eab_hmac_key = to_c(o.eab_hmac_key, "eab_hmac_key");
        c.eab_algorithm = to_c(o.eab_algorithm, "eab_algorithm");
        c.user_agent = to_c(o.user_agent, "user_agent");
        c.ca_file = to_c(o.ca_file, "ca_file");
        c.allowed_hosts = allowed_hosts.data();
        c.allowed_host_count = allowed_hosts.size();
        c.allow_http_loopback = o.allow_http_loopback;
        c.agreed_terms_url = to_c(o.agreed_terms_url, "agreed_terms_url");
        c.accept_language = to_c(o.accept_language, "accept_language");
        c.ca_dir = to_c(o.ca_dir, "ca_dir");
        c.extra_ca_file = to_c(o.extra_ca_file, "extra_ca_file");
        c.proxy = to_c(o.proxy, "proxy");
        c.client_cert_file = to_c(o.client_cert_file, "client_cert_file");
        c.client_key_file = to_c(o.client_key_file, "client_key_file");
        c.request_timeout_s = to_c(o.request_timeout, "request_timeout");
        c.ip_version = static_cast<std::size_t>(o.ip_version);
        c.store = o.store ? o.store->native_handle() : nullptr;
    }
};

struct order_arguments {
    texts names, challenge_types, name_challenge_types;
    std::optional<std::string> not_before, not_after;
    acme_order_options_t c = {};

    const acme_order_options_t *pointer() const { return &c; }

    explicit order_arguments(const order_options &o)
        : names(o.names, "names"), challenge_types(o.challenge_types, "challenge_types"),
          name_challenge_types(texts::with_gaps(o.name_challenge_types, "name_challenge_types")),
          not_before(to_date(o.not_before)), not_after(to_date(o.not_after))
    {
        if (name_challenge_types.size() && name_challenge_types.size() != names.size())
            throw invalid_argument(status::invalid_argument,
                                   "name_challenge_types and names differ in length: give one "
                                   "challenge type for each name, or none");
        c.size = sizeof c;
        c.names = names.data();
        c.name_count = names.size();
        c.challenge_types = challenge_types.data();
        c.challenge_type_count = challenge_types.size();
        c.key = o.key ? o.key->native_handle() : nullptr;
        c.csr = o.csr ? o.csr->native_handle() : nullptr;
        c.order_url = to_c(o.order_url, "order_url");
        c.timeout_s = to_c(o.timeout, "timeout");
        c.not_before = to_c(not_before, "not_before");
        c.not_after = to_c(not_after, "not_after");
        c.profile = to_c(o.profile, "profile");
        c.profile_optional = o.profile_optional;
        c.replaces = o.replaces ? o.replaces->native_handle() : nullptr;
        c.only_if_due = o.only_if_due;
        c.preferred_chain = to_c(o.preferred_chain, "preferred_chain");
        c.preferred_chain_by = static_cast<std::size_t>(o.preferred_chain_by);
        c.must_staple = o.must_staple;
        c.name_challenge_types = name_challenge_types.data();
        c.ancestor_domain = to_c(o.ancestor_domain, "ancestor_domain");
        c.abandon_on_failure = o.abandon_on_failure;
        c.stored_as = to_c(o.stored_as, "stored_as");
        c.key_type = o.key_type ? static_cast<std::size_t>(*o.key_type) : 0;
        c.new_key = o.new_key;
    }
};

struct authorize_arguments {
    texts names, challenge_types;
    acme_authorize_options_t c = {};

    const acme_authorize_options_t *pointer() const { return &c; }

    explicit authorize_arguments(const authorize_options &o)
        : names(o.names, "names"), challenge_types(o.challenge_types, "challenge_types")
    {
        c.size = sizeof c;
        c.names = names.data();
        c.name_count = names.size();
        c.challenge_types = challenge_types.data();
        c.challenge_type_count = challenge_types.size();
        c.subdomains = o.subdomains;
        c.timeout_s = to_c(o.timeout, "timeout");
    }
};

}  // namespace detail

// --- operations ---------------------------------------------------------------------------------

/// A task at a CA, such as an order; client::begin_order() and the other begin functions make one.
/// Either call run(), or call poll() and do each step in your program's own way:
///
///     void drive()  // called whenever something has happened
///     {
///         for (;;) {
///             switch (op.poll()) {
///             case acme::step::request:   start(op.request()); break;  // op.respond(...) follows
///             case acme::step::publish:   publish(op.challenges()); op.published(); break;
///             case acme::step::unpublish: unpublish(op.challenges()); break;
///             case acme::step::store:     op.access_store(); break;  // better on another thread
///             case acme::step::wait:      arm_timer(op.wait()); return;
///             case acme::step::done:      install(op.take_certificate()); return;
///             default: ...
///             }
///         }
///     }
///
/// One thread at a time may use an operation; any thread may call cancel(). The destructor may run
/// at any moment and ends the operation; the records of challenges that are still published then
/// stay, and your program removes them. A handler may destroy the operation that runs it: the
/// operation then lives until run() returns.
class operation : public detail::handle<acme_op_t> {
public:
    using handle::handle;

    /// Advances the operation and returns what to do next. Throws if the operation has failed, at
    /// every call the same error. now: nullopt for the system clock.
    acme::step poll(std::optional<time_point> now = std::nullopt)
    {
        return static_cast<acme::step>(
            detail::check(acme_op_poll(native_handle(), detail::from_time(now))));
    }

    /// Runs the operation to its end with the built-in HTTPS client and your handlers. Blocks.
    void run(const handlers &with = {});

    /// Ends the operation at its next poll, after step::unpublish if challenges are published. Any
    /// thread and any signal handler may call it, while this object lives and is not being moved.
    void cancel() const { acme_op_cancel(native_handle()); }

    /// The request to send, at step::request. Throws misuse before the first one.
    http_request request() const
    {
        return detail::shown_or_throw(acme_op_request(native_handle()), "request");
    }

    /// Takes the whole response to the request with this id: HTTP status (200 to 599), all header
    /// fields in the order of their arrival, body. Pass 4xx and 5xx like any other response, and do
    /// not follow 3xx.
    void respond(std::uint64_t id, int http_status, const std::vector<header> &headers,
                 std::string_view body)
    {
        for (const header &field : headers)
            if (!response_header(id, field.name, field.value))
                return;
        if (response_body(id, body))
            response_end(id, http_status);
    }

    /// Takes one header field of a response; this and the next two functions are respond() in
    /// parts. False: the response exceeds a limit and has ended; do not pass the rest, poll.
    bool response_header(std::uint64_t id, std::string_view name, std::string_view value)
    {
        return taken(acme_op_response_header(native_handle(), id, name.data(), name.size(),
                                             value.data(), value.size()));
    }

    /// Takes some bytes of the body; call it each time that bytes arrive. False: as for
    /// response_header().
    bool response_body(std::uint64_t id, std::string_view data)
    {
        return taken(acme_op_response_body(native_handle(), id, data.data(), data.size()));
    }

    /// Takes the HTTP status of a response (200 to 599), which is then complete.
    void response_end(std::uint64_t id, int http_status)
    {
        taken(acme_op_response_end(native_handle(), id, http_status));
    }

    /// Reports that no complete response came, and why. The operation decides whether to send the
    /// request again.
    void response_failed(std::uint64_t id, const std::string &why)
    {
        taken(acme_op_response_failed(native_handle(), id, detail::to_c(why, "why")));
    }

    /// Sends the request with this id with the built-in HTTPS client and takes the response, or the
    /// reason why none came. Blocks, for at most client_options::request_timeout. A program without
    /// an HTTP client calls it on a worker thread and polls when it returns.
    void send(std::uint64_t id) { taken(acme_op_send(native_handle(), id)); }

    /// Time from the poll that returned step::wait until the next useful poll. nullopt: the
    /// operation waits for your program, which owes it a response, a signature or published().
    std::optional<std::chrono::milliseconds> wait() const
    {
        const std::int64_t milliseconds = acme_op_wait_ms(native_handle());
        return milliseconds < 0 ? std::nullopt
                                : std::optional(std::chrono::milliseconds(milliseconds));
    }

    /// The challenges of step::publish and step::unpublish.
    std::vector<challenge> challenges() const
    {
        std::vector<challenge> found;
        while (const acme_challenge_t *shown = acme_op_challenge(native_handle(), found.size()))
            found.push_back(detail::from_c(shown));
        return found;
    }

    /// Sets the payload, a JSON object, that the library sends when it responds to the challenge
    /// (RFC 8555 section 7.5.1). Required for the types whose payload your program makes:
    /// "onion-csr-01" and "device-attest-01". Call it before published(), or in handlers::publish.
    void respond_with(const challenge &published, std::string_view json)
    {
        detail::check(acme_op_respond_with(native_handle(), published.shown, json.data(),
                                           json.size()));
    }

    /// Reports that every challenge is published. The library then tells the CA to validate them.
    void published() { detail::check(acme_op_published(native_handle(), nullptr)); }

    /// Reports that the challenges cannot be published, and why: after step::unpublish the
    /// operation fails with host_error.
    void publish_failed(const std::string &why)
    {
        detail::check(acme_op_published(native_handle(), detail::to_c(why, "why")));
    }

    /// The input to sign, at step::sign. Throws misuse before the first one.
    acme::sign_request sign_request() const
    {
        return detail::shown_or_throw(acme_op_sign_request(native_handle()), "signature request");
    }

    /// Takes the signature for the sign request with this id. An ECDSA signature is DER, or the two
    /// integers r and s in full width.
    void signed_with(std::uint64_t id, const bytes &signature)
    {
        detail::check(acme_op_signed(native_handle(), id, signature.data(), signature.size()));
    }

    /// Reports that there is no signature, and why: the operation fails with host_error.
    void sign_failed(std::uint64_t id, const std::string &why)
    {
        detail::check(acme_op_sign_failed(native_handle(), id, detail::to_c(why, "why")));
    }

    /// Does the access to the store, at step::store. Blocks as long as the store does: a program with
    /// an event loop calls it on a worker thread, and polls when it returns.
    void access_store() { detail::check(acme_op_access_store(native_handle())); }

    /// The error that the operation failed with, the same that poll() and run() throw; nullopt if
    /// it has not failed.
    std::optional<acme::error> error() const
    {
        const acme_error_t *shown = acme_op_error(native_handle());
        return shown ? std::optional<acme::error>(acme::error(shown)) : std::nullopt;
    }

    /// One word for a status page, such as "authorization" or "finalize"; acme_op_state() lists
    /// them.
    std::string state() const { return detail::to_string(acme_op_state(native_handle())); }

    /// The order's URL, to resume the order after a restart; nullopt before the CA has named it.
    std::optional<std::string> order_url() const
    {
        return detail::to_optional(acme_op_order_url(native_handle()));
    }

    /// The certificate's key, available from the beginning: store it before the CA issues a
    /// certificate for it. nullopt when the order has a request made elsewhere
    /// (order_options::csr), or the operation is not an order.
    std::optional<acme::key> key() const
    {
        const acme_key_t *shown = acme_op_key(native_handle());
        return shown ? std::optional<acme::key>(acme::key(alias(shown))) : std::nullopt;
    }

    /// The certificate of an order, after step::done. nullopt when the renewal was not due
    /// (order_options::only_if_due) and the client has no store, or the certificate was already
    /// taken. With a store there is also a certificate after the store_error of its last write: use
    /// it, the next operation downloads it again.
    std::optional<certificate> take_certificate()
    {
        acme_cert_t *taken_cert = acme_op_take_cert(native_handle());
        return taken_cert ? std::optional<certificate>(certificate(taken_cert)) : std::nullopt;
    }

    /// The renewal information, after step::done of client::begin_renewal_info() or of an order
    /// with only_if_due whose renewal was not due; nullopt otherwise.
    std::optional<renewal_info> renewal() const
    {
        const acme_renewal_info_t *shown = acme_op_renewal_info(native_handle());
        return shown ? std::optional(detail::from_c(shown)) : std::nullopt;
    }

    /// The URLs, after step::done of client::begin_authorize() or client::begin_list_orders().
    std::vector<std::string> urls() const
    {
        std::vector<std::string> found;
        while (const char *url = acme_op_url(native_handle(), found.size()))
            found.emplace_back(url);
        return found;
    }

    /// Keeps a pointer of your program with the operation. The library does not use it.
    void set_user_data(void *user) { acme_op_set_user_data(native_handle(), user); }

    /// The pointer of set_user_data(); nullptr before the first call.
    void *user_data() const { return acme_op_user_data(native_handle()); }

private:
    /// Whether the rest of a response may follow. A response over a limit has ended: the next poll
    /// throws the reason.
    static bool taken(acme_status_t result)
    {
        if (result == ACME_ERR_PROTOCOL)
            return false;
        detail::check(result);
        return true;
    }

    struct running;
    friend class manager;
};

/// The C callbacks of acme_op_run(), which call the handlers. No exception may pass the library's
/// own frames: the first exception waits here until acme_op_run() has returned.
struct operation::running {
    const handlers &with;
    operation &op;
    std::exception_ptr thrown = nullptr;

    static running &at(void *user) { return *static_cast<running *>(user); }

    template <typename Work> int guard(Work work) noexcept
    {
        try {
            work();
            return 0;
        } catch (...) {
            if (!thrown)
                thrown = std::current_exception();
            return 1;
        }
    }

    static int publish(const acme_challenge_t *shown, void *user) noexcept
    {
        return at(user).guard([&] { at(user).with.publish(detail::from_c(shown)); });
    }

    static int unpublish(const acme_challenge_t *shown, void *user) noexcept
    {
        try {
            at(user).with.unpublish(detail::from_c(shown));
            return 0;
        } catch (...) {
            return 1;
        }
    }

    static int send(acme_op_t *op, const acme_http_request_t *shown, void *user) noexcept
    {
        running &self = at(user);
        const int failed = self.guard([&] { self.with.send(self.op, detail::from_c(shown)); });
        if (failed)  // without this, the operation would send the request again
            acme_op_cancel(op);
        return failed;
    }

    static int sign(const acme_sign_request_t *shown, std::uint8_t *signature, std::size_t *size,
                    void *user) noexcept
    {
        return at(user).guard([&] {
            const bytes made = at(user).with.sign(detail::from_c(shown));
            if (made.size() > *size)
                throw invalid_argument(status::invalid_argument,
                                       "the sign handler gave more than 512 bytes");
            for (std::size_t i = 0; i < made.size(); i++)
                signature[i] = made[i];
            *size = made.size();
        });
    }
};

inline void operation::run(const handlers &with)
{
    // A handler may destroy *this. self lives until run() returns, and is the argument of send.
    operation self(shared());
    running state{with, self};
    acme_run_options_t options = {};

    options.size = sizeof options;
    options.user = &state;
    if (with.publish)
        options.publish = running::publish;
    if (with.unpublish)
        options.unpublish = running::unpublish;
    if (with.send)
        options.send = running::send;
    if (with.sign)
        options.sign = running::sign;
    const acme_status_t result = acme_op_run(self.native_handle(), &options);
    if (state.thrown)
        std::rethrow_exception(state.thrown);
    detail::check(result);
}

// --- clients ------------------------------------------------------------------------------------

/// A kind of certificate that a CA offers (draft-ietf-acme-profiles).
struct profile {
    /// Name, as order_options::profile takes it.
    std::string name;
    /// The CA's description. Untrusted text.
    std::string text;
};

/// One account at one CA: directory, account key, nonces, connections. Make one client per account
/// and use it for all operations, from any number of threads.
///
/// No begin function sends a request. Each throws at once if its arguments cannot work.
class client : public detail::handle<acme_client_t> {
public:
    using handle::handle;

    /// Makes a client. Sends no request; reads the files that the options name.
    explicit client(const client_options &options)
        : handle(detail::make<acme_client_t>(acme_client_new,
                                             detail::client_arguments(options).pointer()))
    {
    }

    /// Obtains a certificate (RFC 8555 section 7.1): registers the account if needed, places the
    /// order, solves the challenges, finalizes, downloads. Blocks. Programs that resume an order
    /// after a failure, or use only_if_due without a store, call begin_order(), operation::run() and
    /// operation::take_certificate() instead.
    certificate obtain(const order_options &order, const handlers &with = {}) const
    {
        if (order.only_if_due && order.replaces)
            throw invalid_argument(status::invalid_argument,
                                   "obtain() always returns a certificate, which only_if_due "
                                   "rules out: use begin_order()");
        operation op = begin_order(order);
        op.run(with);
        std::optional<certificate> cert = op.take_certificate();
        if (!cert)
            throw misuse(status::misuse, "a handler has already taken the certificate: leave it "
                                         "to obtain()");
        return std::move(*cert);
    }

    /// Begins to obtain a certificate; operation::take_certificate() returns it in the end.
    operation begin_order(const order_options &order) const
    {
        return begin(acme_begin_order, detail::order_arguments(order).pointer());
    }

    /// Begins to register the account, or to find it if the CA knows the key (RFC 8555 section
    /// 7.3). account_url() is its URL in the end.
    operation begin_register() const { return begin(acme_begin_register); }

    /// Begins to find the account of the key, without making one (RFC 8555 section 7.3.1). The
    /// operation fails with account_error when the CA does not know the key.
    operation begin_find_account() const { return begin(acme_begin_find_account); }

    /// Begins to replace the account's contacts (RFC 8555 section 7.3.2); an empty list removes
    /// them.
    operation begin_update_contacts(const std::vector<std::string> &contacts) const
    {
        const detail::texts list(contacts, "contacts");
        return begin(acme_begin_update_contacts, list.data(), list.size());
    }

    /// Begins to replace the account's key (RFC 8555 section 7.3.5). Store new_key before this
    /// call, and delete the old key after the operation has succeeded; see acme_begin_key_change().
    operation begin_key_change(const key &new_key) const
    {
        return begin(acme_begin_key_change, new_key.native_handle());
    }

    /// Begins to deactivate the account, permanently (RFC 8555 section 7.3.6).
    operation begin_deactivate() const { return begin(acme_begin_deactivate); }

    /// Begins to fetch when to renew cert (RFC 9773). If the CA has no renewal information, the
    /// time is computed from the certificate's lifetime. operation::renewal() returns it in the
    /// end.
    operation begin_renewal_info(const certificate &cert) const
    {
        return begin(acme_begin_renewal_info, cert.native_handle());
    }

    /// Begins to revoke cert (RFC 8555 section 7.6): as the account that ordered it or, if cert_key
    /// is given, as the holder of the certificate's key.
    operation begin_revoke(const certificate &cert,
                           revocation_reason reason = revocation_reason::unspecified,
                           const key *cert_key = nullptr) const
    {
        return begin(acme_begin_revoke, cert.native_handle(),
                     cert_key ? cert_key->native_handle() : nullptr, static_cast<int>(reason));
    }

    /// Begins to authorize names before an order (RFC 8555 section 7.4.1). operation::urls()
    /// returns the URL of each name's authorization in the end.
    operation begin_authorize(const authorize_options &options) const
    {
        return begin(acme_begin_authorize, detail::authorize_arguments(options).pointer());
    }

    /// Begins to deactivate the authorization at this URL, permanently (RFC 8555 section 7.5.2).
    operation begin_deactivate_authorization(const std::string &authorization_url) const
    {
        return begin(acme_begin_deactivate_authorization,
                     detail::to_c(authorization_url, "authorization_url"));
    }

    /// Begins to deactivate the pending authorizations of the order at this URL (RFC 8555 section
    /// 7.5.2).
    operation begin_abandon_order(const std::string &order_url) const
    {
        return begin(acme_begin_abandon_order, detail::to_c(order_url, "order_url"));
    }

    /// Begins to list the account's orders (RFC 8555 section 7.1.2.1). operation::urls() returns
    /// their URLs in the end.
    operation begin_list_orders() const { return begin(acme_begin_list_orders); }

    /// The account's URL; nullopt until an operation has needed it. Stored and given as
    /// client_options::account_url, it saves a request.
    std::optional<std::string> account_url() const
    {
        return detail::to_optional(acme_client_account_url(native_handle()));
    }

    /// URL of the CA's terms of service; nullopt until an operation has fetched the directory, or
    /// when the directory names no terms.
    std::optional<std::string> terms_url() const
    {
        return detail::to_optional(acme_client_terms_url(native_handle()));
    }

    /// The kinds of certificate that the CA offers; empty until an operation has fetched the
    /// directory.
    std::vector<profile> profiles() const
    {
        std::vector<profile> found;
        while (const char *name = acme_client_profile(native_handle(), found.size()))
            found.push_back({name, detail::to_string(
                                       acme_client_profile_text(native_handle(), found.size()))});
        return found;
    }

    /// The response body for a CA's http-01 request for path, which has no query (RFC 8555 section
    /// 8.3). nullopt if no operation of this client has such a challenge published at this moment:
    /// send the response that you would send without this library. A web server that calls this
    /// needs no handlers::publish for http-01.
    std::optional<std::string> http01_answer(std::string_view path) const
    {
        char body[1024];
        const std::size_t size = acme_client_http01_answer(native_handle(), path.data(),
                                                           path.size(), body, sizeof body);
        return size ? std::optional<std::string>(std::string(body, size)) : std::nullopt;
    }

private:
    template <typename Function, typename... Arguments>
    operation begin(Function function, Arguments... arguments) const
    {
        const acme_client_t *self = native_handle();
        return operation(detail::make<acme_op_t>(function, self, arguments...));
    }
};

// --- drivers ------------------------------------------------------------------------------------

/// Options of driver.
struct driver_options {
    /// Maximum number of threads that send requests, one at a time each: 1 to 256, default 8. One
    /// more thread waits for timers. Threads start when needed, end after 15 idle seconds, and
    /// receive no signals.
    std::size_t max_threads = 0;
    /// Maximum number of concurrent requests to one host and port, each with a connection: 1 to
    /// 256, default 4. If it is smaller than max_threads, a CA that hangs does not delay the
    /// others.
    std::size_t max_requests_per_ca = 0;
};

/// Functions of your program that a driver calls for one operation; see driver::add(). Only
/// driver::dispatch() and the destructor of driver call them, on the thread that calls
/// these. They may call any function of the operation but poll() and run().
///
/// When publish or sign throws, the operation fails with a host_error of the same message.
/// dispatch() throws the first exception of any handler, unchanged, after it has advanced all
/// operations; the destructor of driver drops it.
struct driver_handlers {
    /// Takes the result of the operation, which has finished and left the driver;
    /// operation::error() is the reason if it failed. Required. The operation is freed when this
    /// returns; move it away to keep it.
    std::function<void(operation &)> done = {};
    /// Publishes each of operation::challenges() and calls operation::published() when all are in
    /// place: before it returns, or later on any thread. Required when there is a challenge to
    /// publish.
    std::function<void(operation &)> publish = {};
    /// Removes the records of the same challenges.
    std::function<void(operation &)> unpublish = {};
    /// Signs operation::sign_request(), which is valid until this returns, and passes the signature
    /// to operation::signed_with() or the reason for a failure to operation::sign_failed(): before
    /// it returns, or later on any thread. Required for keys that are outside the process.
    std::function<void(operation &)> sign = {};
};

namespace detail {

/// The managers that a driver works for.
class managers {
public:
    /// A manager, which lives while dispatch() runs, and the exception of its handlers.
    struct held {
        std::shared_ptr<acme_manager_t> manager;
        std::shared_ptr<std::exception_ptr> thrown;
    };

    void add(const std::shared_ptr<acme_manager_t> &manager,
             std::shared_ptr<std::exception_ptr> thrown)
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        known_.push_back({manager, std::move(thrown)});
    }

    /// Returns those that are alive.
    std::vector<held> hold()
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        std::vector<held> alive;
        std::vector<known> kept;
        for (known &each : known_)
            if (std::shared_ptr<acme_manager_t> manager = each.manager.lock()) {
                alive.push_back({std::move(manager), each.thrown});
                kept.push_back(std::move(each));
            }
        known_.swap(kept);
        return alive;
    }

private:
    struct known {
        std::weak_ptr<acme_manager_t> manager;
        std::shared_ptr<std::exception_ptr> thrown;
    };

    std::mutex mutex_;
    std::vector<known> known_;
};

}  // namespace detail

/// A driver runs operations with the built-in HTTPS client, on a few threads of its own. Your event
/// loop watches the file descriptor fd() for reading and calls dispatch() when it is readable.
///
/// The destructor cancels the operations that are still in the driver: it calls unpublish and done
/// of each, and leaves no thread and no connection. A handler may destroy the driver, which then
/// lives until dispatch() returns.
class driver : public detail::handle<acme_driver_t> {
public:
    using handle::handle;

    /// Makes a driver with its file descriptor. Threads start when they are needed.
    explicit driver(const driver_options &options = {})
        : driver(make(options), std::make_shared<detail::managers>())
    {
    }

    /// File descriptor to watch for reading, level- or edge-triggered. It never changes. The driver
    /// owns it: do not read from it and do not close it.
    int fd() const { return acme_driver_fd(native_handle()); }

    /// Adds an operation that was never polled to the driver. Any thread and any handler may call
    /// this. Until done has returned, any thread may use the returned reference for cancel(),
    /// published() and signed_with().
    operation &add(operation op, driver_handlers with) const
    {
        auto made = std::make_unique<task>(task{std::move(op), std::move(with), thrown_});
        acme_driver_callbacks_t callbacks = {};

        callbacks.size = sizeof callbacks;
        callbacks.user = made.get();
        if (made->with.done)
            callbacks.done = task::done;
        if (made->with.publish)
            callbacks.publish = task::publish;
        if (made->with.unpublish)
            callbacks.unpublish = task::unpublish;
        if (made->with.sign)
            callbacks.sign = task::sign;
        operation &added = made->op;
        detail::check(acme_driver_add(native_handle(), added.native_handle(), &callbacks));
        made.release();  // freed by task::done
        return added;
    }

    /// Number of operations in the driver.
    std::size_t count() const { return acme_driver_count(native_handle()); }

    /// Advances every operation that is ready, and calls handlers. Does not block: after about a
    /// millisecond it leaves the rest for the next call, and fd() stays readable. A call while fd()
    /// is not readable does no harm. One thread at a time may call it, and no handler.
    void dispatch()
    {
        const std::shared_ptr<acme_driver_t> self = shared();
        const std::shared_ptr<std::exception_ptr> thrown = thrown_;
        const std::vector<detail::managers::held> managers = managers_->hold();
        const acme_status_t result = acme_driver_dispatch(self.get());
        std::exception_ptr first = std::exchange(*thrown, nullptr);
        for (const detail::managers::held &each : managers)
            if (std::exception_ptr other = std::exchange(*each.thrown, nullptr); !first)
                first = other;
        if (first)
            std::rethrow_exception(first);
        detail::check(result);
    }

private:
    friend class manager;

    // A handler that the destructor calls may destroy a manager, which then lives until its end.
    driver(acme_driver_t *made, const std::shared_ptr<detail::managers> &of)
        : handle(std::shared_ptr<acme_driver_t>(made,
                                                [of](acme_driver_t *freed) {
                                                    const auto held = of->hold();
                                                    acme_driver_free(freed);
                                                })),
          managers_(of)
    {
    }

    /// An operation in the driver. No exception may pass the library's own frames: the first
    /// exception waits in thrown until dispatch() throws it.
    struct task {
        operation op;
        driver_handlers with;
        std::shared_ptr<std::exception_ptr> thrown;

        static task &at(void *user) { return *static_cast<task *>(user); }

        /// Calls the handler; returns the message of its exception, or an empty text.
        std::string guard(const std::function<void(operation &)> &handler) noexcept
        {
            try {
                handler(op);
                return {};
            } catch (const std::exception &error) {
                keep();
                return *error.what() ? error.what() : "a handler threw";
            } catch (...) {
                keep();
                return "a handler threw";
            }
        }

        void keep() noexcept
        {
            if (!*thrown)
                *thrown = std::current_exception();
        }

        static void done(acme_op_t *, acme_status_t, void *user) noexcept
        {
            const std::unique_ptr<task> self(&at(user));
            self->guard(self->with.done);
        }

        static void publish(acme_op_t *op, void *user) noexcept
        {
            const std::string failure = at(user).guard(at(user).with.publish);
            if (!failure.empty())
                acme_op_published(op, failure.c_str());
        }

        static void unpublish(acme_op_t *, void *user) noexcept
        {
            at(user).guard(at(user).with.unpublish);
        }

        static void sign(acme_op_t *op, void *user) noexcept
        {
            const std::uint64_t id = acme_op_sign_request(op)->id;
            const std::string failure = at(user).guard(at(user).with.sign);
            if (!failure.empty())
                acme_op_sign_failed(op, id, failure.c_str());
        }
    };

    static acme_driver_t *make(const driver_options &options)
    {
        acme_driver_options_t c = {};

        c.size = sizeof c;
        c.max_threads = options.max_threads;
        c.max_requests_per_ca = options.max_requests_per_ca;
        return detail::make<acme_driver_t>(acme_driver_new, &c);
    }

    // Shared with the tasks, which may outlive the driver.
    std::shared_ptr<std::exception_ptr> thrown_ = std::make_shared<std::exception_ptr>();
    std::shared_ptr<detail::managers> managers_ = std::make_shared<detail::managers>();
};

// --- managers -----------------------------------------------------------------------------------

/// An event of a certificate, or of a CA; see manager_options::event.
struct manager_event {
    /// Type of the event.
    event_type type = event_type::failed;
    /// Name of the certificate in the store; empty: the event is of a CA.
    std::string name;
    /// The certificate with its key, for the types loaded, obtained, renewed and not_due. Valid
    /// until the handler returns: manager::find() returns one to keep.
    std::optional<certificate> cert;
    /// Why the attempt failed; for a new certificate: why it is not in the store. nullopt: no
    /// failure.
    std::optional<acme::error> error;
    /// When the CA is asked again, or the next attempt begins; nullopt: not known, or never.
    std::optional<time_point> next_try;
    /// End of the validity of the certificate in use; nullopt: not known, or no certificate.
    std::optional<time_point> not_after;
    /// The CA: the URL of its directory.
    std::string ca;
};

/// The next task of a program that polls a manager, from manager::poll().
struct manager_task {
    /// Type of the task.
    manager_step step = manager_step::wait;
    /// The operation to carry out, with manager_step::operation.
    std::optional<operation> attempt;
    /// Time until the next poll, with manager_step::wait.
    std::chrono::milliseconds wait{0};
};

/// Options of manager. Only driver::dispatch(), manager::run(), manager::poll() and the destructors
/// of manager and driver call the handlers, on the thread that calls these. Handlers may call any
/// function of the manager but run() and poll().
///
/// When publish throws, the attempt fails with a host_error of the same message. dispatch(), run()
/// and poll() throw the first exception of any handler, unchanged; the destructors drop it.
struct manager_options {
    /// Required: the account, with a store. It may be destroyed before the manager.
    const acme::client *client = nullptr;
    /// Called for each event.
    std::function<void(const manager_event &)> event = {};
    /// Called with each certificate to use from now on: after it was read from the store, and after
    /// it was issued. The certificate is valid until the handler returns.
    std::function<void(const certificate &)> serve = {};
    /// Publishes each of operation::challenges() and calls operation::published() when all are in
    /// place: before it returns, or later on any thread, while unpublish has not returned. Empty:
    /// the program responds to http-01 with manager::http01_answer(), which needs no publishing. Not
    /// called for operations of manager::poll(), whose steps the program sees.
    std::function<void(operation &)> publish = {};
    /// Removes the records of the same challenges.
    std::function<void(operation &)> unpublish = {};
    /// Maximum number of attempts at the same time; default 10.
    std::size_t max_attempts = 0;
    /// Maximum number of certificates in memory; default 1000. With more, a certificate is read from
    /// the store when manager::find() first asks for it.
    std::size_t max_loaded = 0;
};

/// Keeps any number of certificates of a client fresh: obtains them, asks the CA when to renew them
/// (RFC 9773), renews them, and stores them in the client's store.
///
///     acme::manager_options options;
///     options.client = &client;                         // has a store
///     options.serve = [](const acme::certificate &c) { use(c.chain_pem()); };
///     acme::manager manager(options);
///     manager.add(order);                               // each name
///     manager.start(driver);                            // without an event loop: manager.run();
///
/// Any thread and any handler may call add(), remove(), renew(), count(), find(), status(),
/// metrics() and stop(). Destroy a manager on the thread that dispatches its driver, or while no
/// thread does. A handler may destroy it: it then lives until dispatch() or run() returns.
class manager : public detail::handle<acme_manager_t> {
public:
    /// Makes a manager without certificates. It does nothing before start() or run().
    explicit manager(const manager_options &options) : manager(std::make_shared<state>(options)) {}

    /// Adds a CA, to which the manager goes if the CAs before it fail: at once with a certificate
    /// that is missing or about to expire, with others after six hours. It has an account and a store
    /// of its own, and the next renewal begins with the first CA again. A profile is ordered from a CA
    /// added here only if the CA offers it. Throws a misuse if the manager has certificates.
    void add_ca(const client &ca) const
    {
        detail::check(acme_manager_add_ca(native_handle(), ca.native_handle()));
    }

    /// Obtains certificates on demand: when find() finds no certificate for a name of at least two
    /// labels, the manager calls ask, and obtains and keeps a certificate for the name if ask returns
    /// true. Before each renewal it asks again; if ask then returns false, event_type::stopped follows.
    /// A client may send any name: allow only names that you serve. order has no names. ask is called
    /// as the handlers of manager_options are, and must not block. See acme_manager_on_demand().
    void on_demand(const order_options &order, std::function<bool(const std::string &)> ask) const
    {
        if (!ask)
            throw invalid_argument(status::invalid_argument, "ask is empty");
        state_->ask = std::move(ask);
        detail::check(acme_manager_on_demand(
            native_handle(), detail::order_arguments(order).pointer(), state::asked, state_.get()));
    }

    /// Adds a certificate, or changes the options of the one with this name in the store.
    /// only_if_due has no meaning here.
    void add(const order_options &order) const
    {
        detail::check(
            acme_manager_add(native_handle(), detail::order_arguments(order).pointer()));
    }

    /// Removes the certificate of this name in the store, if there is one. Its files or records
    /// stay in the store.
    void remove(const std::string &name) const
    {
        detail::check(acme_manager_remove(native_handle(), detail::to_c(name, "name")));
    }

    /// Renews the certificate of this name in the store now, although that is not due; begins anew
    /// after event_type::stopped. Throws invalid_argument if the manager has no such
    /// certificate.
    void renew(const std::string &name) const
    {
        detail::check(acme_manager_renew(native_handle(), detail::to_c(name, "name")));
    }

    /// Number of certificates.
    std::size_t count() const { return acme_manager_count(native_handle()); }

    /// The certificate for a client's server name, with its key: by exact name, then by wildcard.
    /// nullopt: no certificate is for this name, or it is being read from the store, and
    /// event_type::loaded follows.
    std::optional<certificate> find(const std::string &server_name) const
    {
        acme_cert_t *found =
            acme_manager_cert(native_handle(), detail::to_c(server_name, "server_name"));
        return found ? std::optional<certificate>(certificate(found)) : std::nullopt;
    }

    /// The response body for a CA's http-01 request for path (RFC 8555 section 8.3), for any CA of
    /// the manager, also if another program that shares the store has the order; nullopt: this is not
    /// the path of a challenge.
    std::optional<std::string> http01_answer(std::string_view path) const
    {
        char body[1024];
        const std::size_t size = acme_manager_http01_answer(native_handle(), path.data(),
                                                            path.size(), body, sizeof body);
        return size ? std::optional<std::string>(std::string(body, size)) : std::nullopt;
    }

    /// Lets a driver work for the manager: from now on driver::dispatch() reads the store, orders
    /// and renews. Several managers may share a driver. If the driver is destroyed first, the
    /// manager stops.
    void start(const driver &with) const
    {
        detail::check(acme_manager_start(native_handle(), with.native_handle()));
        with.managers_->add(shared(), state_->thrown);
    }

    /// Works until stop(), for programs without an event loop; blocks. If a handler throws, run()
    /// ends as after stop(), and throws the same exception.
    void run()
    {
        const std::shared_ptr<acme_manager_t> self = shared();
        const std::shared_ptr<state> with = state_;
        with->running = self.get();
        const acme_status_t result = acme_manager_run(self.get());
        with->running = nullptr;
        if (*with->thrown)
            std::rethrow_exception(std::exchange(*with->thrown, nullptr));
        detail::check(result);
    }

    /// Ends run() within a quarter of a second, after the challenges that are published were
    /// removed. Any signal handler may call this, while the object lives and is not being moved.
    void stop() const { acme_manager_stop(native_handle()); }

    /// Works for the manager without a driver, for programs with an HTTP client of their own: tells
    /// the events, and returns the next task. Does not block. Poll also when the time of the task has
    /// passed, when an attempt has ended, and after add() and renew(); with certificates on demand, or
    /// more than max_loaded, also after find() has returned nullopt. One thread at a time.
    ///
    /// An attempt is an operation: carry it out to its end with operation::poll() or operation::run().
    /// The manager learns its result by itself. If the operation is destroyed before its end, that is a
    /// failure, and the next attempt comes later; after operation::cancel() it begins anew. After an
    /// exception of a handler, the next call returns the task. See acme_manager_poll().
    manager_task poll() const
    {
        const std::shared_ptr<acme_manager_t> self = shared();
        const std::shared_ptr<state> with = state_;
        manager_task task = std::exchange(with->task, {});
        if (task.step == manager_step::wait) {
            acme_op_t *op = nullptr;
            int wait_ms = 0;
            task.step = static_cast<manager_step>(
                detail::check(acme_manager_poll(self.get(), &op, &wait_ms)));
            if (op)
                task.attempt.emplace(op);
            task.wait = std::chrono::milliseconds(wait_ms);
        }
        if (*with->thrown) {
            with->task = std::move(task);
            std::rethrow_exception(std::exchange(*with->thrown, nullptr));
        }
        return task;
    }

    /// Reads from the store what the manager needs, after manager_step::load. Blocks as long as the
    /// store does. Any thread; several calls may run at the same time.
    void load() const { detail::check(acme_manager_load(native_handle())); }

    /// A JSON object about the certificate of this name in the store, or an array about all: name,
    /// state ("valid", "expired", "missing", "stopped" or "loading"), names, ca, not_after, renew_at
    /// and next_try (RFC 3339, if known), failures in a row, and the last error, if the last attempt
    /// failed.
    std::string status(const std::optional<std::string> &name = std::nullopt) const
    {
        std::string text;
        detail::check(
            acme_manager_status(native_handle(), detail::to_c(name, "name"), write, &text));
        return text;
    }

    /// Metrics as OpenMetrics 1.0 text: certificates by state, attempts and their results, failures
    /// by kind, requests and a pause of each CA, the times of the next attempt and of the first
    /// expiry.
    std::string metrics() const
    {
        std::string text;
        detail::check(acme_manager_metrics(native_handle(), write, &text));
        return text;
    }

private:
    /// The handlers, for the C callbacks. No exception may pass the library's own frames: the first
    /// one waits in thrown until dispatch() or run() throws it.
    struct state {
        explicit state(const manager_options &options) : with(options) {}

        manager_options with;
        std::shared_ptr<std::exception_ptr> thrown = std::make_shared<std::exception_ptr>();
        std::function<bool(const std::string &)> ask;
        /// The manager during run().
        acme_manager_t *running = nullptr;
        /// The attempts whose challenges are published.
        std::map<acme_op_t *, operation> published;
        /// The task that poll() has not returned, because a handler threw.
        manager_task task;

        static state &at(void *user) { return *static_cast<state *>(user); }

        /// Calls a handler; returns the message of its exception, or an empty text.
        template <typename Call> std::string guard(Call call) noexcept
        {
            try {
                call();
                return {};
            } catch (const std::exception &error) {
                keep();
                return *error.what() ? error.what() : "a handler threw";
            } catch (...) {
                keep();
                return "a handler threw";
            }
        }

        void keep() noexcept
        {
            if (!*thrown)
                *thrown = std::current_exception();
            acme_manager_stop(running);
        }

        static void event(const acme_event_t *shown, void *user) noexcept
        {
            at(user).guard([&] {
                manager_event made;
                made.type = static_cast<event_type>(shown->type);
                made.name = detail::to_string(shown->name);
                if (shown->cert)
                    made.cert.emplace(borrowed(shown->cert));
                if (shown->error)
                    made.error.emplace(shown->error);
                made.next_try = detail::to_optional_time(shown->next_try);
                made.not_after = detail::to_optional_time(shown->not_after);
                made.ca = detail::to_string(shown->ca);
                at(user).with.event(made);
            });
        }

        static int asked(const char *name, void *user) noexcept
        {
            bool is_wanted = false;
            at(user).guard([&] { is_wanted = at(user).ask(detail::to_string(name)); });
            return is_wanted;
        }

        static void serve(const acme_cert_t *cert, void *user) noexcept
        {
            at(user).guard([&] { at(user).with.serve(borrowed(cert)); });
        }

        static void publish(acme_op_t *op, void *user) noexcept
        {
            const std::string failure =
                at(user).guard([&] { at(user).with.publish(at(user).find(op)); });
            if (!failure.empty())
                acme_op_published(op, failure.c_str());
        }

        static void unpublish(acme_op_t *op, void *user) noexcept
        {
            at(user).guard([&] {
                if (at(user).with.unpublish)
                    at(user).with.unpublish(at(user).find(op));
            });
            at(user).published.erase(op);
        }

        /// Returns the operation of an attempt, which the library owns.
        operation &find(acme_op_t *op)
        {
            const std::shared_ptr<acme_op_t> not_owned(std::shared_ptr<void>(), op);
            return published.try_emplace(op, operation(not_owned)).first->second;
        }

        static certificate borrowed(const acme_cert_t *cert)
        {
            return certificate(std::shared_ptr<acme_cert_t>(std::shared_ptr<void>(),
                                                            const_cast<acme_cert_t *>(cert)));
        }
    };

    explicit manager(std::shared_ptr<state> with) : handle(make(with)), state_(std::move(with)) {}

    static std::shared_ptr<acme_manager_t> make(const std::shared_ptr<state> &with)
    {
        acme_manager_options_t c = {};

        c.size = sizeof c;
        c.client = with->with.client ? with->with.client->native_handle() : nullptr;
        c.user = c.serve_user = with.get();
        if (with->with.event)
            c.event = state::event;
        if (with->with.serve)
            c.serve = state::serve;
        if (with->with.publish)
            c.publish = state::publish;
        if (with->with.publish || with->with.unpublish)
            c.unpublish = state::unpublish;
        c.max_attempts = with->with.max_attempts;
        c.max_loaded = with->with.max_loaded;
        // The callbacks use the state until the manager is freed.
        return std::shared_ptr<acme_manager_t>(detail::make<acme_manager_t>(acme_manager_new, &c),
                                               [with](acme_manager_t *made) { free(made); });
    }

    static void free(acme_manager_t *made) noexcept { acme_manager_free(made); }

    static int write(const char *text, std::size_t size, void *to) noexcept
    {
        try {
            static_cast<std::string *>(to)->assign(text, size);
            return 0;
        } catch (...) {
            return 1;
        }
    }

    std::shared_ptr<state> state_;
};

// --- the library --------------------------------------------------------------------------------

/// The response body for a CA's http-01 request for path, without a client: for a web server in
/// another process or on another machine. thumbprint is the account key's (key::thumbprint()). The
/// result is a body for every path that may belong to a challenge, published or not; nullopt for
/// all other paths. See client::http01_answer().
inline std::optional<std::string> http01_answer(const std::string &thumbprint,
                                                std::string_view path)
{
    char body[1024];
    const std::size_t size = acme_http01_answer(detail::to_c(thumbprint, "thumbprint"), path.data(),
                                                path.size(), body, sizeof body);
    return size ? std::optional<std::string>(std::string(body, size)) : std::nullopt;
}

/// Static English text for a status.
inline std::string_view to_string(status value) { return acme_strerror(static_cast<int>(value)); }

/// Version of the library at run time, such as "0.14.1".
inline std::string_view version() { return acme_version(); }

/// Version of the library at run time as a number; compare it with ACME_MICRO_VERSION_NUMBER.
inline std::uint32_t version_number() { return acme_version_number(); }

/// Whether this feature is compiled into the library.
inline bool has(feature wanted)
{
    return (acme_features() & static_cast<std::uint32_t>(wanted)) != 0;
}

/// A function that receives log lines, on the thread that called the library or on a driver's own
/// thread. It must not call the library. Its exceptions are dropped. No line contains a key, a
/// token or a key authorization.
using log_function = std::function<void(log_level, std::string_view)>;

namespace detail {

/// The log function of the process. It is never destroyed, because a thread may still log while the
/// program ends.
struct log_target {
    std::mutex mutex;
    std::shared_ptr<const log_function> function;

    static log_target &the()
    {
        static log_target *const target = new log_target;
        return *target;
    }

    static void line(int level, const char *message, void *) noexcept
    {
        try {
            std::shared_ptr<const log_function> function_now;
            {
                const std::lock_guard<std::mutex> lock(the().mutex);
                function_now = the().function;
            }
            if (function_now)
                (*function_now)(static_cast<log_level>(level), message);
        } catch (...) {  // a lost log line must not cost an operation
        }
    }
};

}  // namespace detail

/// Sets the log function of the process, which receives lines up to level. An empty function turns
/// logging off, which is the default. When this returns, another thread may still be inside the
/// function that was set before.
inline void set_log_callback(log_function log, log_level level = log_level::info)
{
    detail::log_target &target = detail::log_target::the();
    const bool on = static_cast<bool>(log);
    auto shared = on ? std::make_shared<const log_function>(std::move(log)) : nullptr;
    {
        const std::lock_guard<std::mutex> lock(target.mutex);
        target.function.swap(shared);
    }
    acme_set_log_callback(on ? detail::log_target::line : nullptr, nullptr,
                          static_cast<int>(level));
}

}  // namespace acme

#endif  // ACME_MICRO_HPP
