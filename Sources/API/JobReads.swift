import Gateway
import NIOCore
import NIOHTTP1
import NotificationCore
import NotificationStore

/// `GET /v1/jobs/{id}`: how far a job is.
struct JobReads: Sendable {
    private static let failure = "failed_to_fetch_job"

    let jobs: JobStore
    let credentials: Credentials

    func status(_ context: CarillonRequestContext) async throws(Problem) -> GatewayResponse {
        let request = context.request
        _ = try await self.credentials.application(request, scope: .notify)
        let id = try context.notificationID()
        let status = try await stored(Self.failure, context) { () async throws(StoreError) in try await self.jobs.status(id) }
        guard let status else { throw .notFound }
        var bytes: [UInt8] = []
        bytes.append(ascii: "{\"state\":\"")
        bytes.append(contentsOf: status.state.rawValue.utf8)
        bytes.append(UInt8(ascii: "\""))
        for (name, value) in [("total", status.total), ("done", status.done), ("skipped", status.skipped), ("failed", status.failed)] {
            bytes.append(contentsOf: ",\"\(name)\":\(value)".utf8)
        }
        bytes.append(UInt8(ascii: "}"))
        return .json(.ok, bytes)
    }
}
