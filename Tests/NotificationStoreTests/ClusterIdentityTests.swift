import Foundation
import NotificationCore
import PostgresClient
import TestServers
import Testing

@testable import NotificationStore

extension Store {
    @Suite("The life of the data")
    struct Identity {
        /// So many nodes connect at once, each knowing what `identities` know.
        private func connect(_ identities: [ClusterIdentity], to database: Database) async throws {
            try await withThrowingTaskGroup(of: Void.self) { group in
                for identity in identities {
                    group.addTask {
                        let connection = PostgresConnection(configuration: database.configuration, name: "node", logger: silent)
                        identity.watch(connection)
                        connection.start()
                        try await connection.waitUntilConnected()
                        await connection.close()
                    }
                }
                try await group.waitForAll()
            }
        }

        private func identities(_ count: Int) -> [ClusterIdentity] { (0..<count).map { _ in ClusterIdentity() } }

        private func epoch(_ database: Database) async throws -> Int64 {
            try await database.withConnection { try await $0.execute(PostgresStatement("SELECT epoch FROM cluster"))[0].int8(0) }
        }

        /// A new one is above all others, also those that nobody remembers.
        private func newEpoch(_ database: Database, above known: Int64) async throws -> Int64 {
            let epoch = try await self.epoch(database)
            #expect(epoch > known && abs(epoch - Int64(Date().timeIntervalSince1970)) < 3600)
            return epoch
        }

        @Test("the first nodes of a fresh cluster are in epoch 1, and stay there when they connect again")
        func first() async throws {
            let database = try await Database.migrated()
            let nodes = self.identities(8)
            #expect(nodes[0].epoch == 0)
            for _ in 0..<3 {
                try await self.connect(nodes, to: database)
                #expect(nodes.map(\.epoch) == Array(repeating: 1, count: 8))
            }
            #expect(try await self.epoch(database) == 1)
        }

        @Test(
            "another server, or another timeline, is one new epoch for all nodes",
            arguments: ["system_id = 'another'", "stored_in = 'another'", "timeline = timeline + 1", "timeline = timeline - 1", "lsn = 'FFFFFFF/0'"])
        func another(_ change: String) async throws {
            let database = try await Database.migrated()
            let nodes = self.identities(8)
            try await self.connect(nodes, to: database)
            try await database.withConnection { _ = try await $0.execute(PostgresStatement("UPDATE cluster SET \(change)", prepared: false)) }
            try await self.connect(nodes + self.identities(4), to: database)
            let epoch = try await self.newEpoch(database, above: 1)
            #expect(nodes.map(\.epoch) == Array(repeating: epoch, count: 8))
            try await self.connect(nodes, to: database)
            #expect(try await self.epoch(database) == epoch)
        }

        @Test("nodes that remember nothing do not vouch for a server that left its timeline")
        func recovered() async throws {
            let database = try await Database.migrated()
            try await self.connect(self.identities(1), to: database)
            // As after a recovery that ended on the next timeline: this server is on the first one.
            try await database.withConnection { _ = try await $0.execute(PostgresStatement("UPDATE cluster SET timeline = 0", prepared: false)) }
            let nodes = self.identities(4)
            try await self.connect(nodes, to: database)
            let epoch = try await self.newEpoch(database, above: 1)
            #expect(nodes.map(\.epoch) == Array(repeating: epoch, count: 4))
        }

        @Test("an empty database in the place of one that nodes remember is another life, above theirs")
        func emptied() async throws {
            let database = try await Database.migrated()
            let node = ClusterIdentity()
            node.advance(epoch: 9, to: LogPosition(timeline: 1, lsn: 1))
            try await self.connect([node], to: database)
            let epoch = try await self.newEpoch(database, above: 9)
            #expect(node.epoch == epoch)
            try await self.connect([node], to: database)
            #expect(node.epoch == epoch)
            #expect(try await self.epoch(database) == epoch)
        }

        @Test("the next epoch is above all that are known, and above those that nobody remembers")
        func unknown() async throws {
            try await Database.migrated().withConnection { connection async throws in
                let row = try await connection.execute(PostgresStatement("SELECT epoch_after(1), epoch_after(9999999999), floor(EXTRACT(EPOCH FROM now()))::bigint"))[0]
                #expect(try row.int8(0) == row.int8(2))
                #expect(try row.int8(1) == 10_000_000_000)
            }
        }

        @Test("a log position further back than a node has seen is one new epoch for all nodes")
        func wentBack() async throws {
            let database = try await Database.migrated()
            let nodes = self.identities(8)
            try await self.connect(nodes, to: database)
            for (index, node) in nodes.enumerated() { node.advance(epoch: 1, to: LogPosition(timeline: 1, lsn: 0xFF0_0000_0000 + UInt64(index))) }
            try await self.connect(nodes, to: database)
            let epoch = try await self.newEpoch(database, above: 1)
            #expect(nodes.map(\.epoch) == Array(repeating: epoch, count: 8))
            try await self.connect(nodes, to: database)
            #expect(try await self.epoch(database) == epoch)
        }

        @Test("a node that begins learns from what others have seen that the log went back", arguments: [1, 2] as [Int64])
        func compared(epoch: Int64) async throws {
            let database = try await Database.migrated()
            try await database.withNode { node async throws in
                try await self.connect([node.identity], to: database)
                let here = node.identity.mark
                #expect(here.epoch == 1)
                // What this server has, others may have seen.
                try await node.identity.compare(here, on: node.pool)
                #expect(node.identity.epoch == 1)
                try await node.identity.compare(ClusterMark(epoch: epoch, place: LogPosition(timeline: here.place.timeline, lsn: 0xFF0_0000_0000)), on: node.pool)
                let next = try await self.newEpoch(database, above: epoch)
                #expect(node.identity.epoch == next)
                #expect(node.identity.place.lsn < 0xFF0_0000_0000)
            }
        }

        @Test("what is heard of another timeline does not replace what was seen; what is heard of the same one adds to it")
        func heard() async throws {
            let node = ClusterIdentity()
            node.advance(heard: LogPosition(timeline: 1, lsn: 500), epoch: 1)
            #expect(node.place == LogPosition(timeline: 1, lsn: 500))
            node.advance(epoch: 1, to: LogPosition(timeline: 1, lsn: 1000))
            node.advance(heard: LogPosition(timeline: 2, lsn: 2000), epoch: 1)
            #expect(node.place == LogPosition(timeline: 1, lsn: 1000))
            node.advance(heard: LogPosition(timeline: 1, lsn: 1100), epoch: 1)
            #expect(node.place == LogPosition(timeline: 1, lsn: 1100))
            node.advance(epoch: 2, to: LogPosition(timeline: 1, lsn: 50))
            node.advance(heard: LogPosition(timeline: 1, lsn: 1200), epoch: 1)
            #expect(node.place == LogPosition(timeline: 1, lsn: 50))
        }

        @Test(
            "a place on an earlier timeline is still there if it lies before every fork since, and only then",
            arguments: [("0/100", true), ("0/200", true), ("0/201", false), ("0/300", false)] as [(String, Bool)])
        func forks(seen: String, isThere: Bool) async throws {
            let database = try await Database.migrated()
            try await database.withConnection { connection async throws in
                _ = try await connection.execute(PostgresStatement("INSERT INTO timelines VALUES (2, '0/200'), (3, '0/300')", prepared: false))
                let ask = PostgresStatement("SELECT has_all_seen(1, 3, '0/400', 1, $1, $2::text::pg_lsn), has_all_seen(1, 4, '0/400', 1, $1, $2::text::pg_lsn)")
                let row = try await connection.execute(ask, [.int4(1), .text(seen)])[0]
                #expect(try row.bool(0) == isThere)
                // Nobody looked when the fourth one began.
                #expect(try row.bool(1) == false)
            }
        }

        @Test("a database that knows of fewer epochs than a node gets one above them all")
        func restored() async throws {
            let database = try await Database.migrated()
            let nodes = self.identities(4)
            nodes[2].advance(epoch: 9, to: LogPosition(timeline: 1, lsn: 1))
            for node in nodes { try await self.connect([node], to: database) }
            let epoch = try await self.newEpoch(database, above: 9)
            #expect(nodes.map(\.epoch) == [1, 1, epoch, epoch])
        }

        @Test("a database that has lost the epoch of a user who was erased gets one above it, once")
        func lostErasure() async throws {
            let database = try await Database.migrated()
            let nodes = self.identities(4)
            nodes[1].advance(given: 9)
            nodes[3].advance(given: 9)
            for node in nodes { try await self.connect([node], to: database) }
            let epoch = try await self.newEpoch(database, above: 9)
            #expect(nodes.map(\.epoch) == [1, epoch, epoch, epoch])
        }

        @Test("who waits for another node to make the epoch does not make one more, though the log went on meanwhile")
        func waiting() async throws {
            let database = try await Database.migrated()
            try await database.withNode { node async throws in
                _ = try await node.rows("UPDATE cluster SET timeline = timeline + 1")
                let open = try await OpenTransaction(database, "SELECT FROM cluster FOR UPDATE", then: "SELECT observe_cluster('0/0', 1, 1)")
                async let epochs = withThrowingTaskGroup(of: Int64.self) { group in
                    for _ in 0..<2 {
                        group.addTask { try await database.withConnection { try await $0.execute(ClusterIdentity.observe, [.text("0/0"), .int8(1), .int4(1), .int8(0)])[0].int8(0) } }
                    }
                    return try await group.reduce(into: [Int64]()) { $0.append($1) }
                }
                try await database.withConnection { connection async throws in
                    let waiting = PostgresStatement(
                        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%FROM observe_cluster%'")
                    try await until { try await connection.execute(waiting)[0].int8(0) == 2 }
                }
                for _ in 0..<5 { _ = try await node.write(user("u"), .create(notification())) }
                try await open.commit()
                let epoch = try await self.newEpoch(database, above: 1)
                #expect(try await epochs == [epoch, epoch])
            }
        }

        @Test("a crash that loses only what nobody had committed is not another life")
        func crash() async throws {
            // Without its writer the log reaches the disk by commits alone.
            let database = try await Database.alone(settings: ["wal_writer_delay": "10s", "wal_buffers": "16MB"])
            let node = ClusterIdentity()
            try await self.connect([node], to: database)
            let open = try await OpenTransaction(database, "CREATE TABLE t AS SELECT repeat('x', 100) FROM generate_series(1, 20000)")
            try await self.connect([node], to: database)
            database.server.kill()
            try database.server.start()
            _ = try? await open.commit()
            try await self.connect([node], to: database)
            #expect(node.epoch == 1)
        }

        @Test("a copy of the data folder that was put back is another life, which is known by how far the tail had been read")
        func copyPutBack() async throws {
            let database = try await Database.alone()
            let identity = ClusterIdentity()
            try await self.connect([identity], to: database)
            let data = database.server.folder.path + "/data"
            func write() async throws {
                // Another node's; what ours knows, it knows from the tail.
                try await database.withNode { node async throws in
                    for _ in 0..<50 { try await node.create(user("u")) }
                    var tail = CommitTail(pool: node.pool, identity: identity)
                    _ = try await tail.read()
                }
            }
            database.server.stop()
            try Self.copy(data, to: data + "-copy")
            try database.server.start()
            let before = identity.place.lsn
            try await write()
            #expect(identity.place.lsn > before && identity.epoch == 1)
            database.server.stop()
            try FileManager.default.removeItem(atPath: data)
            try Self.copy(data + "-copy", to: data)
            try database.server.start()
            try await self.connect([identity], to: database)
            let epoch = try await self.newEpoch(database, above: 1)
            #expect(identity.epoch == epoch)
        }

        private static func copy(_ folder: String, to other: String) throws {
            let process = try Process.run(URL(fileURLWithPath: "/bin/cp"), arguments: ["-a", folder, other])
            process.waitUntilExit()
            #expect(process.terminationStatus == 0)
        }

        @Test("the operator's command begins a new epoch, for lists and writes at once")
        func advance() async throws {
            let database = try await Database.migrated()
            try await database.withNode { node async throws in
                try await node.create(user("u"))
                let store = ClusterStore(pool: node.pool)
                let first = try await store.advanceEpoch()
                let found = try await self.newEpoch(database, above: 1)
                #expect(first == found)
                let epoch = try await store.advanceEpoch()
                #expect(epoch > first)
                #expect(try await self.epoch(database) == epoch)
                #expect(try await node.write(user("u"), .create(notification())).head.position == StreamPosition(epoch: epoch, seq: 2))
                #expect(try await node.reader.head(of: user("nobody")).position == StreamPosition(epoch: epoch, seq: 0))
                var tail = CommitTail(pool: node.pool)
                #expect(try await tail.read().epoch == epoch)
            }
        }
    }
}
