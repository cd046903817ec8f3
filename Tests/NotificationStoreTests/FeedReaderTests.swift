import NotificationCore
import PostgresClient
import Synchronization
import Testing

@testable import NotificationStore

extension Store {
    @Suite("Reading the log")
    struct Feeds {
        private let u = user("u")

        @Test("a replay is complete and in order, and knows the counts that it starts from")
        func replay() async throws {
            try await Database.migrated().withNode { node async throws in
                _ = try await node.writer.write((0..<1003).map { _ in InboxCommand(user: u, action: .create(notification { $0.customer = "c" })) })
                try await node.write(u, .readAll(customer: nil, type: nil, upTo: nil, scope: nil))
                let feed = FeedReader(pool: node.pool)
                for at in [4, 5, 500, 1002, 1003] as [Int64] {
                    let answer = try await feed.answer(u, after: StreamPosition(epoch: 1, seq: at))
                    #expect(answer.head == StreamPosition(epoch: 1, seq: 1004))
                    #expect(answer.unread == 0 && answer.unseen == 0 && answer.customers == "{}")
                    #expect(answer.changes?.map(\.seq) == Array((at + 1)...1004))
                    #expect(answer.changes?.last?.kind == .readAll)
                    #expect(answer.countsAtStart! == (Int32(at), Int32(at)))
                }
                let atHead = try await feed.answer(u, after: StreamPosition(epoch: 1, seq: 1004))
                #expect(atHead.changes == [] && atHead.countsAtStart! == (0, 0))
                let fresh = try await feed.answer(u, after: nil)
                #expect(fresh.changes == [] && fresh.head.seq == 1004 && fresh.countsAtStart == nil)
            }
        }

        @Test("a long replay comes in portions, each of which follows the one before")
        func portions() async throws {
            try await Database.migrated().withNode { node async throws in
                _ = try await node.writer.write((0..<300).map { _ in InboxCommand(user: u, action: .create(notification())) })
                let feed = FeedReader(pool: node.pool)
                var position = StreamPosition(epoch: 1, seq: 0)
                var sizes: [Int] = []
                while position.seq < 300 {
                    let answer = try await feed.answer(u, after: position, whole: false)
                    #expect(answer.head.seq == 300)
                    #expect(answer.countsAtStart! == (Int32(position.seq), Int32(position.seq)))
                    let seqs = try #require(answer.changes).map(\.seq)
                    #expect(seqs == Array((position.seq + 1)...(position.seq + Int64(seqs.count))))
                    sizes.append(seqs.count)
                    position.seq += Int64(max(1, seqs.count))
                }
                #expect(sizes == [128, 128, 44])
                #expect(try await feed.answer(u, after: position, whole: false).changes == [])
                // A hole in the log is no replay in portions either.
                _ = try await node.rows("DELETE FROM changes WHERE user_id = 'u' AND seq = 100")
                #expect(try await feed.answer(u, after: StreamPosition(epoch: 1, seq: 0), whole: false).changes == nil)
            }
        }

        @Test(
            "there is no replay from another epoch, from ahead, from too far back, and from nowhere",
            arguments: [(2, 5), (0, 5), (.max, 5), (1, 11), (1, .max), (1, .max - 1000), (2, .max), (.max, .max)] as [(Int64, Int64)])
        func resync(epoch: Int64, seq: Int64) async throws {
            try await Self.ten.value.withNode { node async throws in
                let feed = FeedReader(pool: node.pool)
                let answer = try await feed.answer(u, after: StreamPosition(epoch: epoch, seq: seq))
                #expect(answer.changes == nil)
                #expect(answer.head == StreamPosition(epoch: 1, seq: 10) && answer.unread == 10)
                let unknown = try await feed.answer(user("nobody"), after: StreamPosition(epoch: epoch, seq: seq))
                #expect(unknown.changes == nil && unknown.head == StreamPosition(epoch: 1, seq: 0))
            }
        }

        private static let ten = Task {
            let database = try await Database.migrated()
            try await database.withNode { node async throws in
                _ = try await node.writer.write((0..<10).map { _ in InboxCommand(user: user("u"), action: .create(notification())) })
            }
            return database
        }

        @Test("an unknown user has an empty log")
        func unknown() async throws {
            try await Self.ten.value.withNode { node async throws in
                let answer = try await FeedReader(pool: node.pool).answer(user("nobody"), after: StreamPosition(epoch: 1, seq: 0))
                #expect(answer.changes == [] && answer.countsAtStart! == (0, 0) && answer.customers == "{}")
            }
        }

        @Test("more than a thousand changes, or a log that was cut or has lost a row, is no replay")
        func incomplete() async throws {
            try await Database.migrated().withNode { node async throws in
                _ = try await node.writer.write((0..<1001).map { _ in InboxCommand(user: u, action: .create(notification())) })
                let feed = FeedReader(pool: node.pool)
                func count(_ at: Int64) async throws -> Int? { try await feed.answer(u, after: StreamPosition(epoch: 1, seq: at)).changes?.count }
                #expect(try await count(0) == nil)
                #expect(try await count(1) == 1000)
                _ = try await node.rows("DELETE FROM changes WHERE seq <= 100 OR seq = 500")
                #expect(try await count(99) == nil)
                #expect(try await count(499) == nil)
                #expect(try await count(500) == 501)
                // The row itself is gone, so its counts are not known.
                #expect(try await feed.answer(u, after: StreamPosition(epoch: 1, seq: 500)).countsAtStart == nil)
                #expect(try await feed.answer(u, after: StreamPosition(epoch: 1, seq: 501)).countsAtStart! == (501, 501))
                _ = try await node.rows("DELETE FROM changes")
                #expect(try await count(1000) == nil)
                #expect(try await count(1001) == 0)
            }
        }

        @Test("an epoch of the cluster, and a higher one of the user alone, end what came before")
        func epochs() async throws {
            try await Database.migrated().withNode { node async throws in
                try await node.create(u)
                let feed = FeedReader(pool: node.pool)
                let epoch = try await ClusterStore(pool: node.pool).advanceEpoch()
                var answer = try await feed.answer(u, after: StreamPosition(epoch: 1, seq: 0))
                #expect(answer.changes == nil && answer.head == StreamPosition(epoch: epoch, seq: 1))
                #expect(try await node.reader.head(of: u).position == StreamPosition(epoch: epoch, seq: 1))
                #expect(try await node.reader.page(InboxQuery(user: u)).head.position == StreamPosition(epoch: epoch, seq: 1))
                answer = try await feed.answer(u, after: StreamPosition(epoch: epoch, seq: 0))
                #expect(answer.changes?.count == 1)
                _ = try await node.rows("UPDATE heads SET epoch = \(epoch + 5)")
                #expect(try await feed.answer(u, after: StreamPosition(epoch: epoch, seq: 1)).head.epoch == epoch + 5)
                let outcome = try await node.write(u, .create(notification()))
                #expect(outcome.head.position == StreamPosition(epoch: epoch + 5, seq: 2))
                #expect(try await feed.answer(user("nobody"), after: nil).head.epoch == epoch)
            }
        }

        @Test("a thousand users are read in few statements, each with an answer of its own")
        func many() async throws {
            try await Database.migrated().withNode { node async throws in
                _ = try await node.writer.write((0..<500).flatMap { index in
                    (0...(index % 3)).map { _ in InboxCommand(user: user("u\(index)"), action: .create(notification { $0.customer = "c\(index)" })) }
                })
                let feed = FeedReader(pool: node.pool)
                let answers = Mutex<[Int: Result<FeedAnswer, StoreError>]>([:])
                feed.read((0..<1000).map { index in
                    FeedRequest(user: user("u\(index)"), after: index % 5 == 0 ? nil : StreamPosition(epoch: 1, seq: index % 5 == 1 ? 9 : 0)) { answer in
                        answers.withLock { #expect($0.updateValue(answer, forKey: index) == nil) }
                    }
                })
                await until { answers.withLock { $0.count } == 1000 }
                #expect(feed.statements == 4)
                for (index, result) in answers.withLock({ $0 }) {
                    let answer = try result.get()
                    let count = index < 500 ? index % 3 + 1 : 0
                    #expect(answer.head == StreamPosition(epoch: 1, seq: Int64(count)))
                    switch index % 5 {
                    case 0: #expect(answer.changes == [])
                    case 1: #expect(answer.changes == nil)
                    default:
                        #expect(answer.changes?.map(\.customer) == Array(repeating: "c\(index)", count: count))
                        #expect(answer.changes?.map(\.seq) == Array(1...4).prefix(count).map { Int64($0) })
                    }
                }
            }
        }

        @Test("without a connection every request is answered, and told that Postgres is out of reach")
        func unavailable() async throws {
            let database = try await Database.migrated()
            let pool = PostgresPool(configuration: database.configuration, size: 1, name: "pool", logger: silent)
            let feed = FeedReader(pool: pool)
            let answers = Mutex<[StoreError.Code]>([])
            feed.read((0..<50_000).map { _ in
                FeedRequest(user: u, after: nil) { result in
                    if case .failure(let error) = result { answers.withLock { $0.append(error.code) } }
                }
            })
            await until { answers.withLock { $0.count } == 50_000 }
            #expect(answers.withLock { $0.allSatisfy { $0 == .unavailable } })
        }
    }
}
