import Logging

/// Fetches the key set, one fetch at a time, and hands what it got to `deliver`.
actor JWKSRefresher {
    /// What came of a token that asks for a key that is not there.
    enum OnDemand: Sendable {
        /// The keys are as fresh as they get.
        case fresh
        /// The last fetch failed: a key that is missing may well exist.
        case outOfReach
    }

    /// Seconds between two fetches that tokens with unknown keys set off, so that such tokens cannot be used to flood the publisher.
    static let onDemandInterval: Int64 = 10

    private let source: JWKSSource
    private let timeout: Duration
    private let logger: Logger
    private let deliver: @Sendable (Result<JSONWebKeySet, JWKSLoadError>) -> Void
    private var fetch: Task<Bool, Never>?
    private var lastOnDemand: Int64?
    private var lastSucceeded: Bool

    /// - Parameter loaded: whether the keys have been read once already.
    init(
        source: JWKSSource,
        timeout: Duration,
        loaded: Bool,
        logger: Logger,
        deliver: @escaping @Sendable (Result<JSONWebKeySet, JWKSLoadError>) -> Void
    ) {
        self.source = source
        self.timeout = timeout
        self.logger = logger
        self.deliver = deliver
        lastSucceeded = loaded
    }

    /// Fetches, or joins the fetch that is under way. False when it failed.
    func refresh() async -> Bool {
        let task = fetch ?? start()
        return await task.value
    }

    /// The same, given up when the caller is cancelled: then everybody who waits for this fetch gets false.
    func refreshUntilCancelled() async -> Bool {
        let task = fetch ?? start()
        return await withTaskCancellationHandler {
            await task.value
        } onCancel: {
            task.cancel()
        }
    }

    /// Fetches for a token with an unknown key, at most once in ``onDemandInterval``. `now` is in seconds.
    func refreshOnDemand(now: Int64) async -> OnDemand {
        if let fetch {
            return await fetch.value ? .fresh : .outOfReach
        }
        if let lastOnDemand, now >= lastOnDemand, now - lastOnDemand < Self.onDemandInterval {
            return lastSucceeded ? .fresh : .outOfReach
        }
        lastOnDemand = now
        return await refresh() ? .fresh : .outOfReach
    }

    private func start() -> Task<Bool, Never> {
        // A task of its own, since many may wait for it and the first of them may be cancelled. The time-out bounds its life.
        let task = Task { await self.fetchOnce() }
        fetch = task
        return task
    }

    private func fetchOnce() async -> Bool {
        defer { fetch = nil }
        do {
            let keys = try await source.load(timeout: timeout)
            deliver(.success(keys))
            lastSucceeded = true
        } catch {
            defer { lastSucceeded = false }
            // Given up because the process stops: no fault to report.
            guard !Task.isCancelled else { return false }
            logger.log(
                level: .warning, "The signing keys could not be refreshed; those seen before stay in use.",
                [.setting: SettingName.jwks, .code: error.code.rawValue, .reason: error.message, .remedy: error.remedy]
            )
            deliver(.failure(error))
            return false
        }
        return true
    }
}
