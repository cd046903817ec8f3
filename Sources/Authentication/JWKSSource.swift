import AsyncHTTPClient
import Foundation
import NIOCore
import NIOHTTP1

/// Where the key set is: a file, or a URL.
enum JWKSSource: Sendable, Equatable {
    case file(path: String)
    case url(String)

    init(setting: String) throws(TokenConfigurationError) {
        guard !setting.isEmpty else { throw Self.refused("is empty") }
        let scheme = setting.prefix { $0 != ":" }.lowercased()
        guard scheme == "http" || scheme == "https" else {
            guard !setting.contains("://") else { throw Self.refused("is a URL of another kind than http or https") }
            self = .file(path: setting)
            return
        }
        guard let url = URL(string: setting), let host = url.host(), !host.isEmpty else { throw Self.refused("is not a URL with a host") }
        // It would end up in log lines and error messages of everything on the way.
        guard url.user() == nil, url.password() == nil else { throw Self.refused("holds a user name or password") }
        self = .url(setting)
    }

    private static func refused(_ message: String) -> TokenConfigurationError {
        TokenConfigurationError(
            code: .invalidJWKS, setting: SettingName.jwks, message: message, remedy: "give the path of a file, or an http or https URL without credentials"
        )
    }

    /// Reads the set once. `timeout` bounds all of it.
    func load(timeout: Duration) async throws(JWKSLoadError) -> JSONWebKeySet {
        switch self {
        case .file(let path):
            try JSONWebKeySet(document: SmallFile.read(path, limit: JSONWebKeySet.byteLimit))
        case .url(let url):
            try JSONWebKeySet(document: await Self.fetch(url, timeout: timeout))
        }
    }

    private static func fetch(_ url: String, timeout: Duration) async throws(JWKSLoadError) -> [UInt8] {
        do {
            // The client's own time-outs begin anew with each phase and each byte: a slow trickle would pass them all.
            return try await withThrowingTaskGroup(of: [UInt8].self) { group in
                group.addTask { try await request(url, timeout: timeout) }
                group.addTask {
                    try await Task.sleep(for: timeout)
                    throw JWKSLoadError(code: .timeout, message: "no answer in time", remedy: "check the server that publishes the keys")
                }
                defer { group.cancelAll() }
                return try await group.next() ?? []
            }
        } catch let error as JWKSLoadError {
            throw error
        } catch {
            throw JWKSLoadError(code: .unreachable, message: String(describing: error), remedy: "check the server that publishes the keys, and the way to it")
        }
    }

    private static func request(_ url: String, timeout: Duration) async throws -> [UInt8] {
        // A redirect could lead from https to http, or to wherever somebody else's keys are: the setting names the place.
        var configuration = HTTPClient.Configuration(redirectConfiguration: .disallow)
        configuration.timeout = .init(connect: TimeAmount(timeout), read: TimeAmount(timeout))
        // Otherwise a refused connection is tried again until the time is up, while tokens wait; the next refresh is the retry.
        configuration.connectionPool.retryConnectionEstablishment = false
        // A client for each request, since there is one in five minutes: nothing stays open between them or needs a shutdown.
        return try await HTTPClient.withHTTPClient(configuration: configuration) { client in
            var request = HTTPClientRequest(url: url)
            request.headers.add(name: "Accept", value: "application/jwk-set+json, application/json")
            let response = try await client.execute(request, timeout: TimeAmount(timeout))
            guard response.status == .ok else {
                throw JWKSLoadError(
                    code: .status, message: "status \(response.status.code)", remedy: "give the URL that answers 200 with the keys; redirects are not followed"
                )
            }
            do {
                let body = try await response.body.collect(upTo: JSONWebKeySet.byteLimit)
                return Array(body.readableBytesView)
            } catch is NIOTooManyBytesError {
                throw JWKSLoadError.tooLarge
            }
        }
    }
}
