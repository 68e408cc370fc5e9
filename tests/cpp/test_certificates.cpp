// Certificates, renewals and accounts of acme_micro.hpp, at Pebble.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "pebble.hpp"

using namespace std::chrono_literals;
using std::chrono::system_clock;

static void blocking(const acme::client &ca, web_server &web)
{
    acme::certificate cert = ca.obtain(order_for({"one.cpp.test", "two.cpp.test"}), http01(web));
    verify(cert, "one.cpp.test");
    verify(cert, "two.cpp.test");
    CHECK(cert.names() == std::vector<std::string>{"one.cpp.test", "two.cpp.test"});
    CHECK(cert.key() && cert.key()->type() == acme::key_type::p256);
    CHECK(cert.key_type() == acme::key_type::p256);
    CHECK(cert.days_left() > 1 && cert.days_left(cert.not_after() - 50h) == 2);
    CHECK(cert.days_left(cert.not_after() + 50h) < 0);
    CHECK(cert.not_before() < system_clock::now() && system_clock::now() < cert.not_after());
    CHECK(cert.fingerprint().size() == 64 && cert.ari_id() && has_text(*cert.ari_id(), "."));
    CHECK(cert.serial().find_first_not_of("0123456789abcdef") == std::string::npos);
    CHECK(cert.der() && cert.der(1) && !cert.der(9));
    CHECK(web.size() == 0);
    CHECK(ca.account_url() && has_text(*ca.account_url(), "https://"));
    const std::vector<acme::profile> profiles = ca.profiles();
    CHECK(ca.terms_url() && !profiles.empty() && !profiles.front().text.empty());
    CHECK(std::count_if(profiles.begin(), profiles.end(),
                        [](const acme::profile &p) { return p.name == "default"; }) == 1);

    const acme::certificate read = acme::certificate::parse(cert.chain_pem());
    CHECK(read.fingerprint() == cert.fingerprint() && !read.key());

    acme::order_options wild = order_for({"*.wild.cpp.test"});
    wild.challenge_types = {"dns-01"};
    verify(ca.obtain(wild, dns01()), "*.wild.cpp.test");

    // Each name has its own challenge type.
    acme::order_options mixed = order_for({"mixed.cpp.test", "*.mixed.cpp.test"});
    mixed.name_challenge_types = {"", "dns-01"};
    std::vector<std::string> types;
    acme::handlers both = http01(web);
    both.publish = [&](const acme::challenge &c) {
        types.push_back(c.type);
        c.type == "dns-01" ? dns01().publish(c) : http01(web).publish(c);
    };
    both.unpublish = [&](const acme::challenge &c) {
        c.type == "dns-01" ? dns01().unpublish(c) : http01(web).unpublish(c);
    };
    verify(ca.obtain(mixed, both), "*.mixed.cpp.test");
    CHECK(std::count(types.begin(), types.end(), "dns-01") == 1 && types.size() == 2);

    // If the request was made elsewhere, the certificate has no key.
    const acme::key key = acme::key::generate(acme::key_type::p384);
    const acme::csr csr = acme::csr::create(key, {"csr.cpp.test"});
    const acme::bytes der = csr.der();
    acme::order_options by_csr;
    const acme::csr reread =
        acme::csr::parse({reinterpret_cast<const char *>(der.data()), der.size()});
    by_csr.csr = &reread;
    cert = ca.obtain(by_csr, http01(web));
    verify(cert, "csr.cpp.test");
    CHECK(!cert.key() && cert.key_type() == acme::key_type::p384);
}

// Runs an operation like a server's loop, which never blocks except in send().
static std::optional<acme::step> drive(acme::operation &op, web_server &web, bool stop_at_order)
{
    for (;;) {
        const acme::step step = op.poll();
        if (stop_at_order && op.order_url())
            return std::nullopt;
        switch (step) {
        case acme::step::request: {
            const acme::http_request request = op.request();
            CHECK(request.url.find(request.host) != std::string::npos && request.port != 0);
            CHECK(request.method == "GET" ? request.body.empty() : !request.headers.empty());
            op.send(request.id);
            break;
        }
        case acme::step::wait: std::this_thread::sleep_for(op.wait().value_or(20ms)); break;
        case acme::step::publish:
            for (const acme::challenge &c : op.challenges())
                http01(web).publish(c);
            op.published();
            break;
        case acme::step::unpublish:
            for (const acme::challenge &c : op.challenges())
                http01(web).unpublish(c);
            break;
        default: return step;
        }
    }
}

static void step_by_step(const acme::key &account, web_server &web)
{
    acme::order_options order = order_for({"steps.cpp.test"});
    std::optional<acme::key> key = acme::key::generate();
    const std::string thumbprint = key->thumbprint();
    std::optional<acme::client> ca(pebble_options(account));

    order.key = &*key;
    std::optional<acme::operation> op(ca->begin_order(order));
    CHECK(op->state() == "new" && !op->order_url() && !op->error());
    ca.reset();  // handles may be freed in any order
    CHECK(!drive(*op, web, true));
    order.order_url = op->order_url();
    op.reset();  // as after a crash

    ca.emplace(pebble_options(account));
    op.emplace(ca->begin_order(order));
    key.reset();
    CHECK(op->key() && op->key()->thumbprint() == thumbprint);
    int mine = 0;
    op->set_user_data(&mine);
    CHECK(op->user_data() == &mine);
    CHECK(drive(*op, web, false) == acme::step::done);
    CHECK(op->order_url() == order.order_url);
    std::optional<acme::certificate> cert = op->take_certificate();
    CHECK(cert && !op->take_certificate());
    verify(*cert, "steps.cpp.test");

    // A borrowed key keeps its owner alive.
    const acme::key of_op = *op->key(), of_cert = *cert->key();
    op.reset();
    cert.reset();
    CHECK(of_op.thumbprint() == thumbprint && of_cert.thumbprint() == thumbprint);
    CHECK(has_text(of_cert.pem().value(), "BEGIN PRIVATE KEY"));
}

static void tls_alpn(const acme::client &ca)
{
    acme::order_options order = order_for({"alpn.cpp.test"});
    std::optional<acme::challenge> kept;

    order.challenge_types = {"tls-alpn-01"};
    acme::handlers handlers;
    handlers.publish = [&](const acme::challenge &c) {
        kept = c;
        throw std::runtime_error("enough");
    };
    THROWS(std::runtime_error, "enough", ca.obtain(order, handlers));
    CHECK(kept && kept->tls_alpn_digest && kept->tls_alpn_name == "alpn.cpp.test");
    CHECK(kept->http_path.empty() && kept->dns_name.empty() && !kept->persistent);
    // A copy of the challenge is valid after the operation.
    const acme::key key = acme::key::generate();
    const acme::certificate cert = acme::certificate::tls_alpn(*kept, &key);
    CHECK(cert.key()->thumbprint() == key.thumbprint());
    CHECK(acme::certificate::tls_alpn(*kept).key()->thumbprint() != key.thumbprint());
    const std::string text = shell("openssl x509 -noout -text", cert.chain_pem());
    CHECK(has_text(text, "1.3.6.1.5.5.7.1.31: critical") && has_text(text, "DNS:alpn.cpp.test"));
    kept->tls_alpn_digest.reset();
    THROWS(acme::invalid_argument, "tls_alpn_digest", acme::certificate::tls_alpn(*kept));
    order.challenge_types = {"dns-persist-01"};
    THROWS(std::runtime_error, "enough", ca.obtain(order, handlers));
    CHECK(kept->type == "dns-persist-01" && kept->persistent);
}

static void accounts_and_renewals(web_server &web)
{
    const acme::key old_key = acme::key::generate(), new_key = acme::key::generate();
    const acme::client ca(pebble_options(old_key));
    const acme::handlers http = http01(web);

    const auto unknown =
        THROWS(acme::account_error, "accountDoesNotExist", ca.begin_find_account().run());
    CHECK(unknown.status() == acme::status::account);
    acme::order_options order = order_for({"renew.cpp.test"});
    order.profile = "default";
    const acme::certificate cert = ca.obtain(order, http);
    CHECK(cert.days_left() > 80);

    acme::operation op = ca.begin_renewal_info(cert);
    op.run();
    CHECK(op.renewal() && op.renewal()->from_ca && op.renewal()->renew_at > system_clock::now());
    CHECK(op.renewal()->window_start <= op.renewal()->renew_at);
    CHECK(op.renewal()->renew_at <= op.renewal()->window_end);
    CHECK(op.renewal()->check_again_at > system_clock::now() && !op.take_certificate());
    order.replaces = &cert;
    order.only_if_due = true;
    op = ca.begin_order(order);
    op.run(http);
    CHECK(op.renewal() && !op.take_certificate());  // not due
    THROWS(acme::invalid_argument, "only_if_due", ca.obtain(order, http));

    ca.begin_register().run();
    ca.begin_update_contacts({"mailto:ops@example.org"}).run();
    ca.begin_key_change(new_key).run();
    ca.begin_revoke(cert, acme::revocation_reason::superseded).run();
    const acme::key cert_key = *cert.key();
    ca.begin_revoke(cert, acme::revocation_reason::unspecified, &cert_key).run();  // again: fine

    const acme::client with_new(pebble_options(new_key));
    with_new.begin_find_account().run();
    CHECK(with_new.account_url() && with_new.account_url() == ca.account_url());

    acme::authorize_options authorize;
    authorize.names = {"ahead.cpp.test"};
    THROWS(acme::unsupported, "newAuthz", with_new.begin_authorize(authorize).run(http));
    op = with_new.begin_list_orders();
    op.run();
    CHECK(!op.urls().empty() && has_text(op.urls().at(0), "https://"));
    std::string authorization;
    acme::handlers watched = http;
    watched.send = [&](acme::operation &sending, const acme::http_request &request) {
        if (has_text(request.path, "authZ"))
            authorization = request.url;
        sending.send(request.id);
    };
    with_new.obtain(order_for({"deactivated.cpp.test"}), watched);
    with_new.begin_deactivate_authorization(authorization).run();
    op = with_new.begin_order(order_for({"abandoned.cpp.test"}));
    drive(op, web, true);
    with_new.begin_abandon_order(op.order_url().value()).run();
    with_new.begin_deactivate().run();
}

static std::string content(const std::string &path)
{
    std::ifstream file(path);
    return std::string(std::istreambuf_iterator<char>(file), {});
}

static void files_for_servers(const acme::client &ca, web_server &web)
{
    char root[] = "/tmp/acme-cpp-XXXXXX";
    CHECK(mkdtemp(root) != nullptr);
    const std::string folder = std::string(root) + "/site";
    const acme::certificate cert = ca.obtain(order_for({"files.cpp.test"}), http01(web));
    const acme::key own = cert.key().value();
    const std::string chain = cert.chain_pem(), key(own.pem().value());
    acme::files_options options;
    THROWS(acme::invalid_argument, "no file", cert.write_files(options));
    options.folder = folder;
    options.combined = std::string(root) + "/both.pem";
    options.chain = "chain.pem";
    options.key = "key.pem";
    options.certificate = "cert.pem";
    options.issuers = "issuers.pem";
    options.mode = 0604;
    options.key_mode = 0640;
    cert.write_files(options);
    CHECK(content(folder + "/chain.pem") == chain && content(folder + "/key.pem") == key);
    CHECK(content(folder + "/cert.pem") + content(folder + "/issuers.pem") == chain);
    CHECK(content(*options.combined) == key + chain);
    using std::filesystem::perms;
    CHECK(std::filesystem::status(*options.combined).permissions() == perms(0640));
    CHECK(std::filesystem::status(folder + "/cert.pem").permissions() == perms(0604));

    const acme::certificate parsed = acme::certificate::parse(chain);
    THROWS(acme::invalid_argument, "no key", parsed.write_files(options));
    options.private_key = &own;
    parsed.write_files(options);
    options.private_key = nullptr;
    options.owner = SIZE_MAX;
    THROWS(acme::invalid_argument, "owner", cert.write_files(options));
    options.owner = 0;
    options.group = SIZE_MAX;
    THROWS(acme::invalid_argument, "group", cert.write_files(options));
    options.group = 0;
    options.folder = "/nonexistent/site";
    THROWS(acme::store_error, "No such file", cert.write_files(options));
    std::filesystem::remove_all(root);
}

#if __cplusplus >= 202002L
// Uses designated initializers for options and handlers.
static void designated(const acme::key &account, web_server &web)
{
    const acme::client ca({.directory_url = env("ACME_DIRECTORY"),
                           .account_key = &account,
                           .terms_agreed = true,
                           .ca_file = env("ACME_CA_FILE")});
    verify(ca.obtain({.names = {"designated.cpp.test"}},
                     {.publish = http01(web).publish, .unpublish = http01(web).unpublish}),
           "designated.cpp.test");
}
#endif

int main(int argc, char **argv)
{
    web_server web;
    const acme::key account = acme::key::generate();
    const acme::client ca(pebble_options(account));
    return run_tests("test_certificates", argc, argv,
                     {TEST(blocking(ca, web)),
                      TEST(step_by_step(account, web)),
                      TEST(tls_alpn(ca)),
                      TEST(accounts_and_renewals(web)),
                      TEST(files_for_servers(ca, web)),
#if __cplusplus >= 202002L
                      TEST(designated(account, web)),
#endif
                     });
}
