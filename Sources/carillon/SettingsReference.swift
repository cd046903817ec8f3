import ArgumentParser
import Synchronization

/// What the code says of each setting when it reads it: default and possible values.
final class SettingsRecord: Sendable {
    struct Entry: Sendable {
        var fallback: String
        var values: String
    }

    private let entries = Mutex<[String: Entry]>([:])

    func note(_ name: String, default fallback: String, values: String) {
        self.entries.withLock { $0[name] = Entry(fallback: fallback, values: values) }
    }

    subscript(name: String) -> Entry? { self.entries.withLock { $0[name] } }
}

/// Prints docs/configuration.md.
struct SettingsCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "settings", abstract: "Prints the reference of all settings, with defaults and bounds as the code has them (Markdown).")

    func run() async throws {
        print(try SettingsReference.markdown(), terminator: "")
    }
}

/// All settings with what they are for. Numbers, switches and choices come from where they are read.
enum SettingsReference {
    struct Setting {
        var name: String
        /// Where the code does not say it, or it depends on the machine.
        var fallback: String?
        var text: String

        init(_ name: String, _ fallback: String? = nil, _ text: String) {
            self.name = "CARILLON_" + name
            self.fallback = fallback
            self.text = text
        }
    }

    static let sections: [(title: String, settings: [Setting])] = [
        (
            "Servers",
            [
                Setting("DATABASE_URL", "required", "Postgres: a libpq URI; several hosts for a failover"),
                Setting(
                    "DATABASE_POOLER", nil,
                    "whose session of Postgres a connection has: `auto` finds a pooler out, `session` says that there is none or that it pools sessions, `transaction` that each transaction may run in another"),
                Setting("REDIS_URL", "required", "Redis: `redis://`, `redis+sentinel://`, `redis+cluster://`, and with `rediss` the same over TLS"),
                Setting("REDIS_CA_FILE", "the system's", "PEM file of the authorities that Redis' certificates are checked with; read again for each connection, as are the next two"),
                Setting("REDIS_CERTIFICATE_FILE", "none", "PEM file of the certificate that is shown to Redis, the chain behind it"),
                Setting("REDIS_KEY_FILE", "none", "PEM file of its key"),
                Setting("REDIS_PREFIX", "`carillon`", "of all keys and channels: clusters that share a Redis need different ones"),
                Setting("LANES", nil, "connections to Postgres that write: the first one alone, until it is behind"),
            ]
        ),
        (
            "The node",
            [
                Setting("ROLES", "`all`", "some of `api`, `edge`, `worker`, separated by commas"),
                Setting("HOST", "`127.0.0.1`", "address to listen on"),
                Setting("PORT", nil, "port to listen on; 0: any free one"),
                Setting("NODE_NAME", "host name", "in logs, in `ready` events, and at the head of Socket.IO session ids; unique in the cluster"),
                Setting("THREADS", "cores, 64 at most", "event loops"),
                Setting("MAX_CONNECTIONS", "by the limit of file descriptors", "streams of this process"),
                Setting("DRAIN_SECONDS", nil, "over which a stopping edge closes its streams"),
                Setting("LOG_LEVEL", nil, "what is logged, from that level on; read again at SIGHUP, `debug` from SIGUSR1 to SIGUSR2"),
                Setting("METRICS_TOKEN", "none", "bearer token that `/metrics` asks for"),
                Setting("DEMO", nil, "the demo page, whose helper routes answer loopback only"),
            ]
        ),
        (
            "Who may come in",
            [
                Setting("JWT_SECRET", "one of these three", "HS256 secret of at least 32 bytes"),
                Setting("JWT_PUBLIC_KEY", "one of these three", "public key (PEM) of RS256, ES256 or EdDSA tokens"),
                Setting("JWT_JWKS", "one of these three", "path or URL of a JSON Web Key Set, which is refreshed"),
                Setting("JWT_ISSUER", "not checked", "`iss` that tokens must have"),
                Setting("JWT_AUDIENCE", "not checked", "`aud` that tokens must have"),
                Setting("JWT_LEEWAY", nil, "seconds by which clocks may differ"),
                Setting("COOKIE_NAME", "`carillon_token`", "cookie that may hold the token"),
                Setting("CORS_ORIGINS", "none", "origins of pages that may call, separated by commas; `http://localhost:*` allows any port"),
                Setting("TRUSTED_PROXIES", "this machine", "ranges of the load balancers, separated by commas: their `X-Forwarded-For` says whose address a request comes from"),
                Setting("RATE_LIMIT_USER", nil, "requests a minute of a user"),
                Setting("RATE_LIMIT_KEY", nil, "requests a minute of an API key"),
            ]
        ),
        (
            "What is taken in",
            [
                Setting("HEADER_BYTES", nil, "of a request's line and headers; past it 431"),
                Setting("BODY_BYTES", nil, "of a request's body; past it 413"),
                Setting("PUBLISH_BODY_BYTES", nil, "of the body of a request that sends notifications"),
                Setting("HELD_BODY_BYTES", nil, "of all bodies that wait for their answers, and half as much for the first 16 KiB of each; callers whose credential is not known have half of both. Past it 503"),
                Setting("HEAD_SECONDS", nil, "from the first byte of a request's line to the end of its headers; past it 408"),
                Setting("BODY_SECONDS", nil, "from there to the end of its body, of NDJSON from part to part; past it 408"),
                Setting("IDLE_SECONDS", nil, "a connection that asks for nothing, or takes none of its answer, is closed after it"),
            ]
        ),
        (
            "Streams",
            [
                Setting("CONNECTION_LIMIT", nil, "streams of a user in the whole cluster"),
                Setting("CONNECTION_LIMIT_MODE", nil, "what a stream past it does: closes the oldest one, or is refused"),
                Setting("PING_SECONDS", nil, "a silent stream gets a comment that often"),
                Setting("STALLED_SECONDS", nil, "a stream that reads nothing for so long is closed"),
            ]
        ),
        (
            "Content and storage",
            [
                Setting("CATALOGUE", "shipped example", "YAML file of types, events and templates; read again at SIGHUP"),
                Setting("RETENTION_DAYS", nil, "of notifications, deliveries, the audit log, marks and totals"),
                Setting("JOB_REST", nil, "rest after each part of a job for many users, in percent of the time that the part took"),
            ]
        ),
        (
            "Deliveries",
            [
                Setting("DELIVERY_ATTEMPTS", nil, "of one delivery; after the last it is a dead letter"),
                Setting("DELIVERY_BACKOFF_SECONDS", nil, "bound of the first wait between attempts, which is random and doubles up to an hour"),
                Setting("DELIVERY_CONCURRENCY", nil, "messages at once, for each channel and worker"),
                Setting("DELIVERY_LEASE_SECONDS", nil, "until another worker sends what a silent one took"),
                Setting("QUEUE", nil, "by what way workers get what they send: from Postgres itself, or by way of Amazon SQS"),
                Setting("SQS_URL", "for `sqs`", "what the URLs of the queues begin with: `https://sqs.eu-central-1.amazonaws.com/123456789012/carillon-`"),
                Setting("SQS_RESEND_SECONDS", nil, "until a task whose message nobody has brought is sent once more"),
                Setting("SMTP_URL", "no e-mail", "`smtp[s]://[user:password@]host[:port][/greeting]`, `?starttls=required\\|opportunistic\\|none`; `file:///folder` writes files, `discard:` forgets"),
                Setting("EMAIL_FROM", "required with a mail server", "`Name <address>`"),
                Setting("SMS_PROVIDER", "no texts", "`sns` or `twilio`"),
                Setting("AWS_REGION", "for `sns` and `sqs`", "region"),
                Setting("AWS_ACCESS_KEY_ID", "for `sns` and `sqs`", "key"),
                Setting("AWS_SECRET_ACCESS_KEY", "for `sns` and `sqs`", "secret of the key"),
                Setting("AWS_SESSION_TOKEN", "none", "of temporary keys"),
                Setting("SNS_SENDER_ID", "none", "sender that telephones show"),
                Setting("SNS_URL", "AWS's", "another address of SNS"),
                Setting("TWILIO_ACCOUNT_SID", "for `twilio`", "account"),
                Setting("TWILIO_AUTH_TOKEN", "for `twilio`", "its token, which callbacks are signed with, too"),
                Setting("TWILIO_FROM", "for `twilio`", "a number, a name, or the SID of a messaging service"),
                Setting("TWILIO_URL", "Twilio's", "another address of Twilio"),
                Setting("TELEGRAM_BOT_TOKEN", "no Telegram", "the bot's token"),
                Setting("TELEGRAM_URL", "Telegram's", "another address of Telegram"),
                Setting("PUBLIC_URL", "none", "by what readers and providers reach the service: links to unsubscribe, callbacks"),
                Setting("CA_FILE", "the system's", "PEM file of the certificates that mail servers, providers and webhooks are checked with"),
            ]
        ),
        (
            "Webhooks",
            [
                Setting("SECRETS_KEY", "no webhooks", "at least 32 bytes; webhooks' secrets are encrypted with it"),
                Setting("SECRETS_KEY_OLD", "none", "the key before: what was encrypted with it is still read, until `carillon secrets reseal` has brought it under the new one"),
                Setting("WEBHOOK_ALLOWED_CIDRS", "none", "ranges that webhooks may call besides the public internet, separated by commas"),
                Setting("WEBHOOK_ATTEMPTS", nil, "of one call; after the last the webhook has failed"),
                Setting("WEBHOOK_BACKOFF_SECONDS", nil, "bound of the first wait between attempts, which doubles"),
                Setting("WEBHOOK_TIMEOUT_SECONDS", nil, "of one call"),
                Setting("WEBHOOK_CONCURRENCY", nil, "calls at once to one webhook"),
                Setting("WEBHOOK_ADMINS", "none", "users who are told when a webhook has failed, separated by commas"),
            ]
        ),
    ]

    /// - Throws: a ``SettingError`` for a setting that is read and not described, or the other way round.
    static func markdown() throws -> String {
        let record = SettingsRecord()
        // Only so that everything is read once.
        let environment = [
            "CARILLON_DATABASE_URL": "postgresql://localhost/carillon", "CARILLON_REDIS_URL": "redis://localhost",
            "CARILLON_JWT_SECRET": String(repeating: "x", count: 32), "CARILLON_QUEUE": "sqs", "CARILLON_AWS_REGION": "eu-central-1",
            "CARILLON_AWS_ACCESS_KEY_ID": "x", "CARILLON_AWS_SECRET_ACCESS_KEY": "x", "CARILLON_SQS_URL": "http://localhost/x-",
        ]
        _ = try NodeConfiguration(settings: Settings(file: nil, environment: environment, record: record))
        let described = self.sections.flatMap { $0.settings.map(\.name) }
        for name in Settings.allNames.symmetricDifference(described).sorted() {
            throw SettingError(name, described.contains(name) ? "is described and not read" : "is read and not described")
        }
        var text = """
            # Settings

            Made by `carillon settings` from where the program reads them; `carillon settings > docs/configuration.md` brings this page up to date, and a
            test compares.

            A setting is an environment variable, or the same name in a YAML file (`--config`); the environment counts first. `NAME_FILE` reads the value
            from that file, as secrets are mounted. A wrong value stops the start with one line that names the setting; `carillon check` says what works.

            """
        for (title, settings) in self.sections {
            text += "\n## \(title)\n\n| name | default | values | |\n|---|---|---|---|\n"
            for setting in settings {
                let entry = record[setting.name]
                text += "| `\(setting.name)` | \(setting.fallback ?? entry?.fallback ?? "none") | \(entry?.values ?? "text") | \(setting.text) |\n"
            }
        }
        return text
    }
}
