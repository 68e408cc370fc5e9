// Errors of acme_micro.hpp: from Pebble, and from a CA in this program.
#include "pebble.hpp"

using namespace std::chrono_literals;
using std::chrono::system_clock;

static_assert(std::is_nothrow_copy_constructible_v<acme::error>);
static_assert(std::is_base_of_v<acme::problem_error, acme::rate_limited>);

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
    THROWS(acme::terms_not_agreed, "terms", op.poll());  // at each poll
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

// A CA whose responses the test makes.
class made_up_ca {
public:
    // Responds to a request, with a fresh nonce.
    void answer(acme::operation &op, std::uint64_t id, int status,
                std::vector<acme::header> headers, const std::string &body)
    {
        headers.push_back({"Replay-Nonce", "nonce-" + std::to_string(++nonces_)});
        op.respond(id, status, headers, body);
    }

    // Runs op until its newOrder request; returns the id of the request.
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
    THROWS(acme::misuse, "no request yet", op.request());
    THROWS(acme::misuse, "no signature request yet", op.sign_request());
    THROWS(acme::misuse, "", op.published());
    THROWS(acme::misuse, "", op.response_end(17, 200));
    CHECK(op.challenges().empty() && op.urls().empty() && !op.renewal());
    std::uint64_t id = ca.until_new_order(op);
    CHECK(op.poll() == acme::step::wait && op.wait().value() > 9min);  // until the operation's timeout
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

    // The test passes the time, and Retry-After is returned as a time.
    const auto now = system_clock::from_time_t(1900000000);
    op = acme::client(options).begin_order(order_for({"a.test"}));
    id = ca.until_new_order(op);
    ca.answer(op, id, 429, {{"Retry-After", "7200"}},
              R"({"type":"urn:ietf:params:acme:error:rateLimited","detail":"slower"})");
    const auto limited = THROWS(acme::rate_limited, "slower", op.poll());
    CHECK(limited.retry_at().value() > system_clock::now() + 1h);

    // The next try is not before the CA's time; without one, after a minute to 90 seconds, or after a day.
    CHECK(acme::next_try(1, &limited) == limited.retry_at());
    CHECK(acme::next_try(1, nullptr, nullptr, now) >= now + 1min);
    CHECK(acme::next_try(1, nullptr, nullptr, now) < now + 90s);
    CHECK(acme::next_try(1, &compound, nullptr, now) >= now + (compound.permanent() ? 24h : 0h));
    CHECK(acme::next_try(99, &limited, nullptr, now) >= now + 24h);
    CHECK(acme::next_try(1) > system_clock::now() + 50s);
    // The next try is not too late for the certificate: if valid for a day, it is due after half a day.
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

    // A response that exceeds a limit ends without an exception, because a C callback may have fed it.
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

int main(int argc, char **argv)
{
    const acme::key account = acme::key::generate();
    const acme::client ca(pebble_options(account));
    return run_tests("test_errors", argc, argv,
                     {TEST(errors(ca)),
                      TEST(answers())});
}
