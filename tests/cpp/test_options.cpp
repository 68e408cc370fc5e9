// Options and moves of acme_micro.hpp.
#include <cstring>
#include <type_traits>

#include "pebble.hpp"

using namespace std::chrono_literals;
using std::chrono::system_clock;

static_assert(!std::is_copy_constructible_v<acme::key> && !std::is_copy_assignable_v<acme::key>);
static_assert(std::is_nothrow_move_constructible_v<acme::operation>);
static_assert(std::is_nothrow_move_assignable_v<acme::certificate>);
static_assert(std::is_aggregate_v<acme::client_options>);
static_assert(std::is_aggregate_v<acme::order_options> && std::is_aggregate_v<acme::handlers>);

// --- moves --------------------------------------------------------------------------------------

template <typename Handle, typename Use> static void moves(Handle handle, const char *name, Use use)
{
    use(handle);
    Handle taken(std::move(handle));
    CHECK(!handle && taken);  // NOLINT: the state after a move
    THROWS(acme::misuse, name, use(handle));
    THROWS(acme::misuse, "moved from", handle.native_handle());
    use(taken);
    Handle &self = taken;
    taken = std::move(self);
    CHECK(taken);
    use(taken);
    handle = std::move(taken);
    use(handle);
    CHECK(!taken);  // NOLINT
}

static void moves_of_all(const acme::key &account, const acme::client &ca, web_server &web)
{
    moves(acme::key::generate(), "acme::key", [](auto &k) { k.thumbprint(); });
    moves(acme::csr::create(account, {"a.test"}), "acme::csr", [](auto &c) { c.der(); });
    moves(acme::client(pebble_options(account)), "acme::client",
          [](auto &c) { c.begin_register(); });
    moves(ca.obtain(order_for({"moves.cpp.test"}), http01(web)), "acme::certificate",
          [](auto &c) { c.names(); });
    moves(ca.begin_register(), "acme::operation", [](auto &op) { op.state(); });
    moves(acme::store::memory(), "acme::store", [](auto &s) { s.check(); });

    acme::operation op = ca.begin_register();
    acme::operation taken = std::move(op);
    THROWS(acme::misuse, "acme::operation", op.poll());  // NOLINT
    THROWS(acme::misuse, "acme::operation", op.run());
    THROWS(acme::misuse, "acme::operation", op.cancel());
    taken.run();

    acme::key key = acme::key::generate();
    acme::order_options order = order_for({"a.test"});
    order.key = &key;
    const acme::key gone = std::move(key);
    THROWS(acme::misuse, "acme::key", ca.begin_order(order));
    // A handle comes from C, and is released to C.
    acme_key_t *raw = nullptr;
    CHECK(acme_key_generate(ACME_KEY_P256, &raw) == ACME_OK);
    const acme::key adopted(raw);
    CHECK(adopted.native_handle() == raw && adopted.thumbprint() == acme_key_thumbprint(raw));
}

// --- options ------------------------------------------------------------------------------------

// Every member of a C options struct is pointer-sized, and zero is its default: so if all options are
// given and one is zero, the wrapper has forgotten it.
template <typename Options> static bool all_are_set(const Options &c)
{
    std::uintptr_t words[sizeof c / sizeof(std::uintptr_t)];
    static_assert(sizeof words == sizeof c);
    std::memcpy(words, &c, sizeof c);
    bool all = true;
    for (std::size_t i = 0; i < std::size(words); i++)
        if (words[i] == 0) {
            std::fprintf(stderr, "member %zu of an options struct is not set\n", i);
            all = false;
        }
    return all;
}

template <typename Options> static bool none_is_set(Options c)
{
    const Options none = {};
    CHECK(c.size == sizeof c);
    c.size = 0;
    return std::memcmp(&c, &none, sizeof c) == 0;
}

static bool is(const char *text, std::string_view wanted) { return text && text == wanted; }

static void options(const acme::key &key, const acme::client &ca)
{
    acme::client_options client;
    client.directory_url = "directory";
    client.account_key = &key;
    client.account_url = "account";
    client.contacts = {"mailto:a@example.org", "mailto:b@example.org"};
    client.terms_agreed = client.allow_http_loopback = true;
    client.eab_key_id = "id";
    client.eab_hmac_key = "mac";
    client.eab_algorithm = "HS384";
    client.user_agent = "agent";
    client.ca_file = "file";
    client.allowed_hosts = {"host"};
    client.agreed_terms_url = "terms";
    client.accept_language = "de";
    client.ca_dir = "dir";
    client.extra_ca_file = "extra";
    client.proxy = "proxy";
    client.client_cert_file = "cert";
    client.client_key_file = "key";
    client.request_timeout = 5min;
    client.ip_version = 6;
    const acme::store store = acme::store::memory();
    client.store = &store;
    const acme::detail::client_arguments c(client);
    CHECK(all_are_set(c.c) && c.c.size == sizeof c.c && c.c.account_key == key.native_handle());
    CHECK(is(c.c.directory_url, "directory") && is(c.c.account_url, "account"));
    CHECK(c.c.contact_count == 2 && is(c.c.contacts[1], "mailto:b@example.org"));
    CHECK(c.c.allowed_host_count == 1 && is(c.c.allowed_hosts[0], "host"));
    CHECK(is(c.c.eab_key_id, "id") && is(c.c.eab_hmac_key, "mac"));
    CHECK(is(c.c.eab_algorithm, "HS384") && is(c.c.user_agent, "agent") && is(c.c.ca_file, "file"));
    CHECK(is(c.c.agreed_terms_url, "terms") && is(c.c.accept_language, "de"));
    CHECK(is(c.c.ca_dir, "dir") && is(c.c.extra_ca_file, "extra") && is(c.c.proxy, "proxy"));
    CHECK(is(c.c.client_cert_file, "cert") && is(c.c.client_key_file, "key"));
    CHECK(c.c.request_timeout_s == 300 && c.c.ip_version == 6 && c.c.terms_agreed == 1);
    CHECK(c.c.allow_http_loopback == 1 && c.c.store == store.native_handle());

    const acme::certificate cert = acme::certificate::parse(
        shell("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "
              "/dev/null -subj /CN=x -days 2900000 2>/dev/null", ""));
    CHECK(cert.not_after() == acme::time_point::max());  // not the real end, in the year 9966
    CHECK(cert.not_after() > system_clock::now() && cert.days_left() > 2800000);
    const acme::csr csr = acme::csr::create(key, {"a.test"});
    acme::order_options order;
    order.names = {"a", "b"};
    order.challenge_types = {"dns-01", "http-01", "tls-alpn-01"};
    order.key = &key;
    order.csr = &csr;
    order.order_url = "url";
    order.timeout = 90s;
    order.not_before = system_clock::from_time_t(951782400);  // a leap day
    order.not_after = system_clock::from_time_t(-1) + 1ms;
    order.profile = "profile";
    order.profile_optional = order.only_if_due = order.must_staple = true;
    order.abandon_on_failure = true;
    order.replaces = &cert;
    order.preferred_chain = "chain";
    order.preferred_chain_by = acme::chain_by::key_id;
    order.name_challenge_types = {"", "dns-01"};
    order.ancestor_domain = "ancestor";
    order.stored_as = "stored";
    order.key_type = acme::key_type::p384;
    order.new_key = true;
    const acme::detail::order_arguments o(order);
    CHECK(all_are_set(o.c) && o.c.size == sizeof o.c);
    CHECK(o.c.name_count == 2 && is(o.c.names[1], "b") && o.c.challenge_type_count == 3);
    CHECK(is(o.c.challenge_types[0], "dns-01") && o.c.key == key.native_handle());
    CHECK(o.c.csr == csr.native_handle() && o.c.replaces == cert.native_handle());
    CHECK(is(o.c.order_url, "url") && o.c.timeout_s == 90 && is(o.c.profile, "profile"));
    CHECK(is(o.c.not_before, "2000-02-29T00:00:00Z") && is(o.c.not_after, "1969-12-31T23:59:59Z"));
    CHECK(is(o.c.preferred_chain, "chain") && o.c.preferred_chain_by == ACME_CHAIN_BY_KEY_ID);
    CHECK(!o.c.name_challenge_types[0] && is(o.c.name_challenge_types[1], "dns-01"));
    CHECK(is(o.c.ancestor_domain, "ancestor") && o.c.profile_optional == 1);
    CHECK(is(o.c.stored_as, "stored") && o.c.key_type == ACME_KEY_P384 && o.c.new_key == 1);
    CHECK(o.c.only_if_due == 1 && o.c.must_staple == 1 && o.c.abandon_on_failure == 1);
    acme::authorize_options authorize;
    authorize.names = {"a"};
    authorize.challenge_types = {"dns-01"};
    authorize.subdomains = true;
    authorize.timeout = 1s;
    CHECK(all_are_set(acme::detail::authorize_arguments(authorize).c));

    CHECK(none_is_set(acme::detail::order_arguments({}).c));
    CHECK(none_is_set(acme::detail::authorize_arguments({}).c));
    acme::client_options nothing;
    nothing.directory_url.clear();
    acme_client_options_t none = acme::detail::client_arguments(nothing).c;
    none.directory_url = nullptr;  // NULL becomes "", which the library refuses
    CHECK(none_is_set(none));
    THROWS(acme::invalid_argument, "account_key", acme::client{nothing});

    order = order_for({"a.test"});
    order.name_challenge_types = {"dns-01", "dns-01"};
    THROWS(acme::invalid_argument, "name_challenge_types", ca.begin_order(order));
    order = order_for({std::string("a\0.test", 7)});
    THROWS(acme::invalid_argument, "names has a NUL", ca.begin_order(order));
    order = order_for({"a.test"});
    order.timeout = -1s;
    THROWS(acme::invalid_argument, "timeout is negative", ca.begin_order(order));
    order = order_for({"*.a.test"});
    THROWS(acme::invalid_argument, "dns-01", ca.begin_order(order));

    // Compares a date for every day of 800 years with gmtime().
    int wrong = 0;
    for (std::time_t day = -9200000000; day < 9200000000; day += 86400 - 7) {
        char text[32];
        std::tm parts;
        std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&day, &parts));
        wrong += acme::detail::to_date(system_clock::from_time_t(day)) != text;
    }
    CHECK(wrong == 0);
}

int main(int argc, char **argv)
{
    web_server web;
    const acme::key account = acme::key::generate();
    const acme::client ca(pebble_options(account));
    return run_tests("test_options", argc, argv,
                     {TEST(moves_of_all(account, ca, web)),
                      TEST(options(account, ca))});
}
