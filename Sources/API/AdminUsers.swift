import Gateway
import HTTPTypes
import Hummingbird
import Logging
import NIOCore
import NIOHTTP1
import NotificationCore
import NotificationStore

/// All that there is about one user: handed out, or erased.
struct AdminUsers: Sendable {
    let erasure: UserErasure
    let export: UserExport
    let credentials: Credentials

    /// `POST /v1/admin/users/{id}/export`: JSON lines (`application/x-ndjson`), the last one `{"kind":"end","lines":n}`. Without that it is not whole.
    func export(_ context: CarillonRequestContext) async throws -> Response {
        try await Administrator(context.request, self.credentials).checkUnlimited()
        var walk = self.export.walk(try context.userID())
        // Read before anything is answered: a database that is away is said so.
        let first = try await stored(administrationFailure, context) { () async throws(StoreError) in try await walk.next() }
        let rest = walk
        let body = ResponseBody { writer in
            var walk = rest
            var portion = first
            var lines = 0
            while let some = portion {
                lines += some.lines
                if some.lines > 0 { try await writer.write(ByteBuffer(bytes: some.bytes)) }
                portion = try await walk.next()
            }
            try await writer.write(ByteBuffer(bytes: JSONValue.object([("kind", .string("end")), ("lines", .number(String(lines)))]).encoded + [0x0A]))
            try await writer.finish(nil)
        }
        return Response(status: .ok, headers: [.contentType: "application/x-ndjson", .cacheControl: "no-store"], body: body)
    }

    /// `DELETE /v1/admin/users/{id}`: again: the same. Open streams are told `resync`.
    func erase(_ context: CarillonRequestContext) async throws(Problem) -> GatewayResponse {
        try await Administrator(context.request, self.credentials).checkUnlimited()
        let user = try context.userID()
        let rows = try await stored("failed_to_delete", context) { () async throws(StoreError) in try await self.erasure.erase(user) }
        context.logger.info("user erased", metadata: ["rows": "\(rows)"])
        return GatewayResponse(status: .noContent)
    }
}
