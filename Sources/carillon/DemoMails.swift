import Foundation
import Gateway
import NIOCore
import NIOHTTP1
import NotificationCore

/// `GET /demo/mails?user=`: the last e-mails to a user, where `CARILLON_SMTP_URL` names a folder that they are written to.
struct DemoMails: Sendable {
    /// E-mails in an answer, and files that are looked through for them.
    private static let most = 20
    private static let looked = 500

    /// Nil: they go elsewhere.
    private let folder: URL?

    init(email: SenderSettings.Email?) {
        if case .files(let path) = email { self.folder = URL(fileURLWithPath: path, isDirectory: true) } else { self.folder = nil }
    }

    func list(_ request: GatewayRequest, _ loop: any EventLoop) -> EventLoopFuture<GatewayResponse> {
        guard let folder else { return loop.makeSucceededFuture(Problem.notFound.response(instance: request.requestID)) }
        guard let user = UserID(request.query["user"] ?? "") else {
            return loop.makeSucceededFuture(Problem.invalidField("user", "must name a user").response(instance: request.requestID))
        }
        let promise = loop.makePromise(of: GatewayResponse.self)
        promise.completeWithTask {
            let mails = try Self.mails(in: folder, to: user).map { mail in
                JSONValue.object(["id", "at", "to", "subject", "text"].map { ($0, mail[$0] ?? .null) })
            }
            return .json(.ok, JSONValue.object([("data", .array(mails))]).encoded)
        }
        return promise.futureResult
    }

    /// Newest first: their files are named by ids that sort by time.
    private static func mails(in folder: URL, to user: UserID) throws -> [JSONValue] {
        // Before the first e-mail there is no folder.
        guard FileManager.default.fileExists(atPath: folder.path) else { return [] }
        let names = try FileManager.default.contentsOfDirectory(atPath: folder.path).filter { $0.hasSuffix(".json") }.sorted(by: >)
        var found: [JSONValue] = []
        for name in names.prefix(Self.looked) where found.count < Self.most {
            let mail = try JSONParser.parse(Array(try Data(contentsOf: folder.appendingPathComponent(name))))
            if mail["user_id"]?.string.flatMap({ UserID($0) }) == user { found.append(mail) }
        }
        return found
    }
}
