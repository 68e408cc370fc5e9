// The C++ wrapper: with certificates from a real CA (Pebble), and with a CA that is made up.
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <poll.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <fstream>
#include <sstream>
#include <type_traits>

#include "pebble.hpp"

using namespace std::chrono_literals;
using std::chrono::system_clock;

static_assert(!std::is_copy_constructible_v<acme::key> && !std::is_copy_assignable_v<acme::key>);
static_assert(std::is_nothrow_move_constructible_v<acme::operation>);
static_assert(std::is_nothrow_move_assignable_v<acme::certificate>);
static_assert(std::is_nothrow_copy_constructible_v<acme::error>);
static_assert(std::is_aggregate_v<acme::client_options>);
static_assert(std::is_aggregate_v<acme::order_options> && std::is_aggregate_v<acme::handlers>);
static_assert(std::is_base_of_v<acme::problem_error, acme::rate_limited>);

static acme::client_options pebble_options(const acme::key &account)
{
    acme::client_options options;
    options.directory_url = env("ACME_DIRECTORY");
    options.ca_file = env("ACME_CA_FILE");
    options.account_key = &account;
    options.terms_agreed = true;
    options.user_agent = "cpp-test/1";
    return options;
}

static acme::order_options order_for(std::vector<std::string> names)
{
    acme::order_options order;
    order.names = std::move(names);
    return order;
}

static acme::handlers http01(web_server &web)
{
    acme::handlers made;
    made.publish = [&web](const acme::challenge &c) { web.put(c.http_path, c.key_authorization); };
    made.unpublish = [&web](const acme::challenge &c) { web.remove(c.http_path); };
    return made;
}

static acme::handlers dns01()
{
    acme::handlers made;
    made.publish = [](const acme::challenge &c) { dns_post("/set-txt", c.dns_name, c.dns_value); };
    made.unpublish = [](const acme::challenge &c) { dns_post("/clear-txt", c.dns_name, ""); };
    return made;
}

struct my_failure {
    std::string what;
};

// The event loop of a host: until the driver has nothing left. Gives what dispatch() threw.
static std::vector<std::string> loop(acme::driver &driver)
{
    std::vector<std::string> threw;
    while (driver && driver.count() > 0) {
        pollfd readable = {driver.fd(), POLLIN, 0};
        CHECK(poll(&readable, 1, 60000) == 1);
        try {
            driver.dispatch();
        } catch (const my_failure &failure) {
            threw.push_back(failure.what);
        } catch (const std::exception &error) {
            threw.push_back(error.what());
        }
    }
    return threw;
}

// --- certificates -------------------------------------------------------------------------------

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
    CHECK(ca.terms_url() && ca.profiles().size() == 2 && !ca.profiles().front().text.empty());

    const acme::certificate read = acme::certificate::parse(cert.chain_pem());
    CHECK(read.fingerprint() == cert.fingerprint() && !read.key());

    acme::order_options wild = order_for({"*.wild.cpp.test"});
    wild.challenge_types = {"dns-01"};
    verify(ca.obtain(wild, dns01()), "*.wild.cpp.test");

    // Each name by a type of its own.
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

    // With a request made elsewhere there is no key.
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

// The loop of a server that never blocks, but for send().
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
    ca.reset();  // in any order: the operation keeps what it needs
    CHECK(!drive(*op, web, true));
    order.order_url = op->order_url();
    op.reset();  // a crash, as it were

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

    // What was borrowed keeps its owner.
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
    CHECK(kept->http_path.empty() && kept->dns_name.empty());
    // A copy may be kept: the operation is gone.
    const acme::key key = acme::key::generate();
    const acme::certificate cert = acme::certificate::tls_alpn(*kept, &key);
    CHECK(cert.key()->thumbprint() == key.thumbprint());
    CHECK(acme::certificate::tls_alpn(*kept).key()->thumbprint() != key.thumbprint());
    const std::string text = shell("openssl x509 -noout -text", cert.chain_pem());
    CHECK(has_text(text, "1.3.6.1.5.5.7.1.31: critical") && has_text(text, "DNS:alpn.cpp.test"));
    kept->tls_alpn_digest.reset();
    THROWS(acme::invalid_argument, "tls_alpn_digest", acme::certificate::tls_alpn(*kept));
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

// --- keys ---------------------------------------------------------------------------------------

static void keys(const std::string &file)
{
    const acme::key key = acme::key::generate(acme::key_type::ed25519);
    CHECK(key.type() == acme::key_type::ed25519 && key.thumbprint().size() == 43);
    std::ofstream(file) << *key.pem();
    std::ostringstream text;
    text << std::ifstream(file).rdbuf();
    CHECK(acme::key::parse(text.str()).thumbprint() == key.thumbprint());

    const std::string encrypted =
        shell("openssl pkcs8 -topk8 -v2 aes-256-cbc -passout pass:secret", *key.pem());
    CHECK(acme::key::parse_encrypted(encrypted, "secret").thumbprint() == key.thumbprint());
    THROWS(acme::crypto_error, "passphrase", acme::key::parse_encrypted(encrypted, "wrong"));
    THROWS(acme::invalid_argument, "NUL",
           acme::key::parse_encrypted(encrypted, std::string("a\0b", 3)));
    THROWS(acme::invalid_argument, "", acme::key::parse("no key"));
    THROWS(acme::invalid_argument, "", acme::key::parse(""));
    THROWS(acme::invalid_argument, "", acme::key::generate(static_cast<acme::key_type>(99)));

    const acme::key outside = acme::key::from_public(shell("openssl pkey -pubout", *key.pem()));
    CHECK(!outside.pem() && outside.thumbprint() == key.thumbprint());
}

// What an HSM would do.
static acme::bytes sign_with(EVP_PKEY *key, const acme::bytes &input)
{
    acme::bytes signature(512);
    std::size_t size = signature.size();
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    CHECK(EVP_DigestSignInit(context, nullptr, EVP_sha256(), nullptr, key) == 1);
    CHECK(EVP_DigestSign(context, signature.data(), &size, input.data(), input.size()) == 1);
    EVP_MD_CTX_free(context);
    signature.resize(size);
    return signature;
}

static void keys_elsewhere(web_server &web)
{
    const acme::key inside = acme::key::generate();
    const std::string_view pem = *inside.pem();
    BIO *bio = BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size()));
    EVP_PKEY *evp = PEM_read_bio_PrivateKey(bio, nullptr, nullptr, nullptr);
    BIO_free(bio);
    const acme::key account = acme::key::from_public(shell("openssl pkey -pubout", pem));
    const acme::client ca(pebble_options(account));
    acme::handlers handlers = http01(web);
    int signatures = 0;

    handlers.sign = [&](const acme::sign_request &request) {
        signatures++;
        CHECK(request.algorithm == "ES256" && request.key_thumbprint == inside.thumbprint());
        return sign_with(evp, request.input);
    };
    verify(ca.obtain(order_for({"hsm.cpp.test"}), handlers), "hsm.cpp.test");
    CHECK(signatures > 3);

    // Step by step: signed_with() and sign_failed().
    acme::operation op = ca.begin_find_account();
    acme::step step;
    while ((step = op.poll()) != acme::step::done) {
        if (step == acme::step::request)
            op.send(op.request().id);
        else if (step == acme::step::sign)
            op.signed_with(op.sign_request().id, sign_with(evp, op.sign_request().input));
    }
    op = ca.begin_deactivate();
    while ((step = op.poll()) != acme::step::sign)
        if (step == acme::step::request)
            op.send(op.request().id);
    op.sign_failed(op.sign_request().id, "the token is gone");
    THROWS(acme::host_error, "the token is gone", op.poll());

    // In a driver: at once, and not at all.
    acme::driver driver;
    acme::driver_handlers driven;
    std::optional<std::string> outcome;
    driven.done = [&](acme::operation &done) {
        outcome = done.error() ? done.error()->what() : "fine";
    };
    driven.sign = [&](acme::operation &signing) {
        const acme::sign_request request = signing.sign_request();
        signing.signed_with(request.id, sign_with(evp, request.input));
    };
    driver.add(ca.begin_find_account(), driven);
    CHECK(loop(driver).empty() && outcome == "fine");
    driven.sign = [](acme::operation &) { throw std::runtime_error("no PIN"); };
    driver.add(ca.begin_deactivate(), driven);
    CHECK(loop(driver) == std::vector<std::string>{"no PIN"} && has_text(*outcome, "no PIN"));

    handlers.sign = [](const acme::sign_request &) { return acme::bytes(513); };
    THROWS(acme::invalid_argument, "512", ca.begin_deactivate().run(handlers));
    int caught = 0;
    handlers.sign = [](const acme::sign_request &) -> acme::bytes { throw 42; };
    try {
        ca.begin_deactivate().run(handlers);
    } catch (int thrown) {
        caught = thrown;
    }
    CHECK(caught == 42);
    THROWS(acme::host_error, "sign", ca.begin_deactivate().run());
    EVP_PKEY_free(evp);
}

// --- errors -------------------------------------------------------------------------------------

static void errors(const acme::client &ca)
{
    acme::handlers nothing;
    nothing.publish = nothing.unpublish = [](const acme::challenge &) {};
    const auto refused = THROWS(acme::challenge_failed, "http-01",
                               ca.obtain(order_for({"nobody.cpp.test"}), nothing));
    CHECK(refused.status() == acme::status::challenge && refused.message() == refused.what());
    CHECK(refused.identifier() == "nobody.cpp.test" && refused.url());
    CHECK(has_text(refused.problem_type().value(), "urn:ietf:params:acme:error:"));
    CHECK(has_text(refused.problem_json().value(), "\"detail\""));

    const auto rejected =
        THROWS(acme::problem_error, "rejectedIdentifier",
               ca.obtain(order_for({"blocked-domain.example"}), nothing));
    CHECK(rejected.permanent() && rejected.status() == acme::status::order);
    THROWS(acme::order_rejected, "", throw acme::order_rejected(rejected.status(), "mine"));

    const acme::key other = acme::key::generate();
    acme::client_options options = pebble_options(other);
    options.terms_agreed = false;
    const acme::client no_terms(options);
    acme::operation op = no_terms.begin_register();
    THROWS(acme::terms_not_agreed, "terms", op.run());
    CHECK(op.error() && op.error()->status() == acme::status::terms && no_terms.terms_url());
    THROWS(acme::terms_not_agreed, "terms", op.poll());  // each time
    options.directory_url = "https://127.0.0.1:1/dir";
    const auto no_answer =
        THROWS(acme::transport_error, "", acme::client(options).begin_register().run());
    CHECK(!no_answer.permanent() && no_answer.url() == options.directory_url);
    CHECK(!no_answer.problem_json() && !no_answer.retry_at() && !no_answer.identifier());

    CHECK(has_text(acme::to_string(acme::status::rate_limited), "now"));
    CHECK(acme::version_number() == ACME_MICRO_VERSION_NUMBER && !acme::version().empty());
    CHECK(acme::has(acme::feature::http));
    const acme::error copy = refused;
    const acme::error moved = std::move(copy);  // NOLINT: it copies
    CHECK(copy.identifier() == moved.identifier());
}

// A CA whose answers the test makes up.
class made_up_ca {
public:
    // Answers a request, with a fresh nonce.
    void answer(acme::operation &op, std::uint64_t id, int status,
                std::vector<acme::header> headers, const std::string &body)
    {
        headers.push_back({"Replay-Nonce", "nonce-" + std::to_string(++nonces_)});
        op.respond(id, status, headers, body);
    }

    // Takes op to its newOrder request and gives its id.
    std::uint64_t until_new_order(acme::operation &op)
    {
        for (;;) {
            CHECK(op.poll() == acme::step::request);
            const auto [id, path] = std::pair(op.request().id, op.request().path);
            if (path == "/order")
                return id;
            if (path == "/dir")
                answer(op, id, 200, {},
                       R"({"newNonce":"https://ca.example/nonce",
                           "newAccount":"https://ca.example/account",
                           "newOrder":"https://ca.example/order",
                           "revokeCert":"https://ca.example/revoke",
                           "keyChange":"https://ca.example/key"})");
            else
                answer(op, id, path == "/account" ? 201 : 200,
                       {{"Location", "https://ca.example/account/1"}}, "{\"status\":\"valid\"}");
        }
    }

private:
    int nonces_ = 0;
};

static void answers()
{
    const acme::key key = acme::key::generate();
    acme::client_options options;
    options.directory_url = "https://ca.example/dir";
    options.account_key = &key;
    options.terms_agreed = true;
    made_up_ca ca;

    acme::operation op = acme::client(options).begin_order(order_for({"a.test", "b.test"}));
    THROWS(acme::misuse, "no request", op.request());
    THROWS(acme::misuse, "no thing to sign", op.sign_request());
    THROWS(acme::misuse, "", op.published());
    THROWS(acme::misuse, "", op.response_end(17, 200));
    CHECK(op.challenges().empty() && op.urls().empty() && !op.renewal());
    std::uint64_t id = ca.until_new_order(op);
    CHECK(op.poll() == acme::step::wait && op.wait().value() > 9min);  // until it gives up
    ca.answer(op, id, 400, {}, R"({
        "type":"urn:ietf:params:acme:error:compound","detail":"two are bad",
        "subproblems":[{"type":"urn:ietf:params:acme:error:caa","detail":"no",
                        "identifier":{"type":"dns","value":"a.test"}},
                       {"type":"urn:ietf:params:acme:error:dns","detail":"none",
                        "identifier":{"type":"dns","value":"b.test"}}]})");
    const auto compound = THROWS(acme::problem_error, "two are bad", op.poll());
    CHECK(compound.subproblems().size() == 2);
    CHECK(compound.subproblems().at(0).identifier() == "a.test");
    CHECK(compound.subproblems().at(1).problem_type() == "urn:ietf:params:acme:error:dns");

    // Time is an input, and what the CA says of it comes out as time.
    const auto now = system_clock::from_time_t(1900000000);
    op = acme::client(options).begin_order(order_for({"a.test"}));
    id = ca.until_new_order(op);
    ca.answer(op, id, 429, {{"Retry-After", "7200"}},
              R"({"type":"urn:ietf:params:acme:error:rateLimited","detail":"slower"})");
    const auto limited = THROWS(acme::rate_limited, "slower", op.poll());
    CHECK(limited.retry_at().value() > system_clock::now() + 1h);

    // The next try is not before that; else a minute later, half as much again, or a day.
    CHECK(acme::next_try(1, &limited) == limited.retry_at());
    CHECK(acme::next_try(1, nullptr, nullptr, now) >= now + 1min);
    CHECK(acme::next_try(1, nullptr, nullptr, now) < now + 90s);
    CHECK(acme::next_try(1, &compound, nullptr, now) >= now + (compound.permanent() ? 24h : 0h));
    CHECK(acme::next_try(99, &limited, nullptr, now) >= now + 24h);
    CHECK(acme::next_try(1) > system_clock::now() + 50s);
    // Nor too late for the certificate: one of a day is due after half of it.
    const acme::certificate in_use = acme::certificate::parse(
        shell("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "
              "/dev/null -subj /CN=x -days 1 2>/dev/null", ""));
    const acme::time_point from = in_use.not_before();
    CHECK(acme::next_try(9, nullptr, &in_use, from) > from + 8h);
    CHECK(acme::next_try(9, nullptr, &in_use, from) < from + 13h);
    CHECK(acme::next_try(9, nullptr, &in_use, from + 20h) <= from + 22h);
    CHECK(acme::next_try(1, &limited, &in_use) == limited.retry_at());
    op = acme::client(options).begin_order(order_for({"a.test"}));
    CHECK(op.poll(now) == acme::step::request);
    op.response_failed(op.request().id, "the cable is out");
    CHECK(op.poll(now) == acme::step::wait && op.wait().value() > 0ms);
    CHECK(op.poll(now + *op.wait()) == acme::step::request);
    op.cancel();
    THROWS(acme::canceled, "", op.poll(now + 1h));

    // An answer that breaks a limit ends without an exception: a C callback may have fed it.
    op = acme::client(options).begin_register();
    CHECK(op.poll() == acme::step::request);
    id = op.request().id;
    CHECK(!op.response_body(id, std::string(2 << 20, 'x')));
    CHECK(!op.response_header(id, "A", "b"));
    THROWS(acme::protocol_error, "", op.poll());
    op = acme::client(options).begin_register();
    CHECK(op.poll() == acme::step::request);
    op.respond(op.request().id, 200, {}, std::string(2 << 20, 'x'));
    THROWS(acme::protocol_error, "", op.poll());
}

// --- handlers -----------------------------------------------------------------------------------

static void y06_thrown_by_handlers(const acme::client &ca, web_server &web)
{
    int number = 0;
    const auto fresh = [&] {  // Pebble may reuse an authorization
        return order_for({"thrown" + std::to_string(++number) + ".cpp.test",
                          "thrown" + std::to_string(++number) + ".cpp.test"});
    };
    const auto threw = [&](const acme::handlers &with) {
        try {
            ca.obtain(fresh(), with);
        } catch (const my_failure &failure) {
            return failure.what;
        } catch (const std::exception &error) {
            return std::string(error.what());
        }
        return std::string();
    };
    acme::handlers with = http01(web);
    int taken_down = 0;

    // In the middle: the first challenge is in place, and both are taken down.
    int published = 0;
    with.publish = [&](const acme::challenge &c) {
        http01(web).publish(c);
        if (++published == 2)
            throw my_failure{"in publish"};
    };
    with.unpublish = [&](const acme::challenge &c) {
        taken_down++;
        http01(web).unpublish(c);
    };
    CHECK(threw(with) == "in publish" && published == 2 && taken_down == 2 && web.size() == 0);

    // The first exception is the one that counts, also when taking down fails.
    with.unpublish = [&](const acme::challenge &c) {
        http01(web).unpublish(c);
        throw my_failure{"in unpublish"};
    };
    published = 1;
    CHECK(threw(with) == "in publish" && web.size() == 0);

    // What unpublish throws does not cost the certificate, but leaves a line in the log.
    std::atomic<int> warnings{0};
    acme::set_log_callback([&](acme::log_level level, std::string_view line) {
        if (level == acme::log_level::warn && has_text(line, "unpublish"))
            warnings++;
        throw my_failure{"in the log"};
    }, acme::log_level::trace);
    with.publish = http01(web).publish;
    CHECK(threw(with).empty() && warnings == 2 && web.size() == 0);
    acme::set_log_callback(nullptr);
    CHECK(threw(with).empty() && warnings == 2);

    // send: ended, not tried again, and taken down.
    with = http01(web);
    int sent = 0, after = 0;
    bool in_place = false;
    with.publish = [&](const acme::challenge &c) {
        in_place = true;
        http01(web).publish(c);
    };
    with.send = [&](acme::operation &op, const acme::http_request &request) {
        sent++;
        after += in_place;
        if (in_place)
            throw my_failure{"in send"};
        op.send(request.id);
    };
    CHECK(threw(with) == "in send" && sent > 3 && after == 1 && web.size() == 0);

    // But that no answer came is no exception: it is tried again.
    int refused = 0;
    with = http01(web);
    with.send = [&](acme::operation &op, const acme::http_request &request) {
        if (refused++ == 0)
            op.response_failed(request.id, "not yet");
        else
            op.send(request.id);
    };
    CHECK(threw(with).empty() && refused > 3);

    // An operation that is being run must not be polled or run, and may be destroyed.
    acme::operation op = ca.begin_order(fresh());
    with = http01(web);
    with.publish = [&](const acme::challenge &) { op.poll(); };
    THROWS(acme::misuse, "acme_op_run", op.run(with));
    op = ca.begin_order(fresh());
    with.publish = [&](const acme::challenge &) { op.run(); };
    THROWS(acme::misuse, "acme_op_run", op.run(with));
    auto doomed = std::make_unique<acme::operation>(ca.begin_order(fresh()));
    with.publish = [&](const acme::challenge &c) {
        doomed.reset();
        http01(web).publish(c);
    };
    acme::operation &dangling = *doomed;
    dangling.run(with);
    CHECK(!doomed && web.size() == 0);

    with.publish = nullptr;
    CHECK(has_text(threw(with), "publish callback"));
}

// --- drivers ------------------------------------------------------------------------------------

static void drivers(const acme::client &ca, web_server &web)
{
    acme::driver_options few;
    few.max_threads = 3;
    few.max_requests_per_ca = 2;
    acme::driver driver(few);
    std::vector<acme::certificate> certs;
    std::vector<std::string> failures;
    acme::driver_handlers with;
    with.publish = [&](acme::operation &op) {
        for (const acme::challenge &c : op.challenges())
            web.put(c.http_path, c.key_authorization);
        op.published();
    };
    with.unpublish = [&](acme::operation &op) {
        for (const acme::challenge &c : op.challenges())
            web.remove(c.http_path);
    };
    with.done = [&](acme::operation &op) {
        if (const auto error = op.error())
            failures.emplace_back(error->what());
        else
            certs.push_back(op.take_certificate().value());
    };

    // Several at once, one of which publishes on another thread, later.
    std::thread later;
    acme::driver_handlers slowly = with;
    slowly.publish = [&](acme::operation &op) {
        later = std::thread([&] {
            std::this_thread::sleep_for(50ms);
            with.publish(op);
        });
    };
    for (int i = 0; i < 5; i++)
        driver.add(ca.begin_order(order_for({"driven" + std::to_string(i) + ".cpp.test"})),
                   i ? with : slowly);
    CHECK(driver.count() == 5);
    CHECK(loop(driver).empty() && certs.size() == 5 && failures.empty() && web.size() == 0);
    later.join();
    verify(certs.at(0), certs.at(0).names().at(0));

    // What publish throws: the operation says it, dispatch() throws it, and the other goes on.
    acme::driver_handlers throws = with;
    throws.publish = [&](acme::operation &op) {
        with.publish(op);
        throw my_failure{"in publish"};
    };
    driver.add(ca.begin_order(order_for({"driven5.cpp.test"})), throws);  // in place: no failure
    throws.publish = [](acme::operation &) { throw std::logic_error("in publish, too"); };
    driver.add(ca.begin_order(order_for({"driven6.cpp.test"})), throws);
    throws = with;
    throws.done = [&](acme::operation &op) {
        with.done(op);
        throw my_failure{"in done"};
    };
    throws.unpublish = [&](acme::operation &op) {
        with.unpublish(op);
        throw my_failure{"in unpublish"};
    };
    driver.add(ca.begin_order(order_for({"driven7.cpp.test"})), throws);
    const std::vector<std::string> threw = loop(driver);
    const auto has = [&](const char *text) {
        return std::count(threw.begin(), threw.end(), text) == 1;
    };
    // Of two in one dispatch() the first counts.
    CHECK(has("in publish") + has("in publish, too") + has("in done") + has("in unpublish") >= 2);
    CHECK(certs.size() == 7 && failures.size() == 1 && web.size() == 0);
    CHECK(has_text(failures.at(0), "in publish, too"));

    // Canceled, by reference; the reference is good until done has returned.
    acme::operation &op = driver.add(ca.begin_order(order_for({"driven8.cpp.test"})), with);
    op.cancel();
    CHECK(loop(driver).empty() && failures.size() == 2 && has_text(failures.at(1), "canceled"));

    // Destroyed with operations in it, and by a handler.
    driver.add(ca.begin_order(order_for({"driven9.cpp.test"})), throws);
    driver = acme::driver();
    CHECK(failures.size() == 3 && driver.count() == 0);
    acme::driver moved = std::move(driver);
    THROWS(acme::misuse, "acme::driver", driver.dispatch());  // NOLINT
    THROWS(acme::misuse, "acme::driver", driver.add(ca.begin_register(), with));
    throws = with;
    throws.done = [&](acme::operation &finished) {
        with.done(finished);
        const acme::driver gone = std::move(moved);
    };
    moved.add(ca.begin_order(order_for({"driven10.cpp.test"})), throws);
    CHECK(loop(moved).empty() && !moved && certs.size() == 8);  // NOLINT

    acme::driver third;
    THROWS(acme::invalid_argument, "done", third.add(ca.begin_register(), {}));
    few.max_threads = 1000;
    THROWS(acme::invalid_argument, "max_threads", acme::driver{few});
}

static void respond_with()
{
    // The types with a payload are not Pebble's: that the right challenge is found shows in what
    // the library says of the wrong ones.
    const acme::key key = acme::key::generate();
    acme::client_options options = pebble_options(key);
    const acme::client ca(options);
    acme::operation op = ca.begin_order(order_for({"payload.cpp.test"}));
    acme::step step;
    while ((step = op.poll()) != acme::step::publish) {
        if (step == acme::step::request)
            op.send(op.request().id);
        else
            std::this_thread::sleep_for(op.wait().value_or(20ms));
    }
    CHECK(op.poll() == acme::step::wait && !op.wait());  // for as long as publishing takes
    acme::challenge made_up;
    THROWS(acme::invalid_argument, "challenge", op.respond_with(made_up, "{}"));
    const auto why = THROWS(acme::error, "", op.respond_with(op.challenges().at(0), "{}"));
    CHECK(!has_text(why.what(), "is not one that op shows"));
    op.publish_failed("no such thing here");
    CHECK(op.poll() == acme::step::unpublish);
    THROWS(acme::host_error, "no such thing here", op.poll());
}

static void cancel_from_another_thread(const acme::client &ca, web_server &web)
{
    acme::operation op = ca.begin_order(order_for({"cancel.cpp.test"}));
    std::atomic<bool> publishing{false};
    acme::handlers with = http01(web);
    std::thread other([&] {
        while (!publishing)
            std::this_thread::sleep_for(1ms);
        op.cancel();
        publishing = false;
    });
    with.publish = [&](const acme::challenge &c) {
        http01(web).publish(c);
        publishing = true;
        while (publishing)
            std::this_thread::sleep_for(1ms);
    };
    THROWS(acme::canceled, "", op.run(with));
    other.join();
    CHECK(op.error()->status() == acme::status::canceled && web.size() == 0);
}

static void threads_share_a_client(const acme::client &ca, web_server &web)
{
    std::vector<std::thread> threads;
    std::atomic<int> obtained{0};

    for (int i = 0; i < 4; i++)
        threads.emplace_back([&, i] {
            const std::string name = "t" + std::to_string(i) + ".cpp.test";
            if (ca.obtain(order_for({name}), http01(web)).names().at(0) == name)
                obtained++;
        });
    for (std::thread &thread : threads)
        thread.join();
    CHECK(obtained == 4 && web.size() == 0);
}

static void stateless_http01(const acme::key &account, const acme::client &ca)
{
    const std::string token = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA";
    const std::string path = "/.well-known/acme-challenge/" + token;
    CHECK(acme::http01_answer(account.thumbprint(), path) == token + "." + account.thumbprint());
    CHECK(!acme::http01_answer(account.thumbprint(), "/index.html"));
    CHECK(!ca.http01_answer(path));
    acme::handlers with;
    with.publish = [&](const acme::challenge &c) {
        CHECK(ca.http01_answer(c.http_path) == c.key_authorization);
        throw std::runtime_error("enough");
    };
    THROWS(std::runtime_error, "enough", ca.obtain(order_for({"stateless.cpp.test"}), with));
}

// --- moves --------------------------------------------------------------------------------------

template <typename Handle, typename Use> static void moves(Handle handle, const char *name, Use use)
{
    use(handle);
    Handle taken(std::move(handle));
    CHECK(!handle && taken);  // NOLINT: that is the question
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
    // From C, and to C.
    acme_key_t *raw = nullptr;
    CHECK(acme_key_generate(ACME_KEY_P256, &raw) == ACME_OK);
    const acme::key adopted(raw);
    CHECK(adopted.native_handle() == raw && adopted.thumbprint() == acme_key_thumbprint(raw));
}

// --- options ------------------------------------------------------------------------------------

// Every member of a C options struct is pointer-sized, and zero is its default: so when all options
// are given and one is zero, the wrapper has forgotten it.
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
    CHECK(c.c.allow_http_loopback == 1);

    const acme::certificate cert = acme::certificate::parse(
        shell("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "
              "/dev/null -subj /CN=x -days 2900000 2>/dev/null", ""));
    CHECK(cert.not_after() == acme::time_point::max());  // the year 9966
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
    none.directory_url = nullptr;  // "" is what the library refuses
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

    // A date for every day of 800 years, beside gmtime().
    int wrong = 0;
    for (std::time_t day = -9200000000; day < 9200000000; day += 86400 - 7) {
        char text[32];
        std::tm parts;
        std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&day, &parts));
        wrong += acme::detail::to_date(system_clock::from_time_t(day)) != text;
    }
    CHECK(wrong == 0);
}

#if __cplusplus >= 202002L
// As C++20 writes it.
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

int main()
{
    char directory[] = "/tmp/acme-cpp-XXXXXX";
    CHECK(mkdtemp(directory) != nullptr);
    const std::string file = std::string(directory) + "/key.pem";
    {
        web_server web;
        const acme::key account = acme::key::generate();
        const acme::client ca(pebble_options(account));

        keys(file);
        options(account, ca);
        answers();
        blocking(ca, web);
        step_by_step(account, web);
        tls_alpn(ca);
        errors(ca);
        y06_thrown_by_handlers(ca, web);
        drivers(ca, web);
        respond_with();
        cancel_from_another_thread(ca, web);
        threads_share_a_client(ca, web);
        stateless_http01(account, ca);
        moves_of_all(account, ca, web);
        accounts_and_renewals(web);
        keys_elsewhere(web);
#if __cplusplus >= 202002L
        designated(account, web);
#endif
    }
    std::remove(file.c_str());
    rmdir(directory);
    return report("test_cpp");
}
