import NIOCore
import Testing

@testable import Gateway

@Suite struct ReadBuffersTests {
    @Test("a channel keeps its small first buffer only; later reads take what the ones before suggest, and give it back")
    func sizes() {
        // As a channel that reads once a turn has it.
        var pool = NIOPooledRecvBufferAllocator(capacity: 1, recvAllocator: ReadBuffers())
        /// What there was room for, when so much of it was filled.
        func read(_ bytes: (Int) -> Int) -> Int {
            let (_, room) = pool.buffer(allocator: ByteBufferAllocator()) { $0.writableBytes }
            pool.record(actualReadBytes: bytes(room))
            return room
        }
        #expect(read { $0 } == ReadBuffers.first)
        var rooms: [Int] = []
        for _ in 0..<7 { rooms.append(read { $0 }) }
        #expect(rooms == [2048, 4096, 8192, 16_384, 32_768, 65_536, 65_536])
        rooms = []
        for _ in 0..<7 { rooms.append(read { _ in 100 }) }
        #expect(rooms == [65_536, 32_768, 16_384, 8192, 4096, 2048, 2048])
        #expect(pool.count == 1)
    }

    @Test("a first read that is not full leads to the usual size")
    func short() {
        var pool = NIOPooledRecvBufferAllocator(capacity: 1, recvAllocator: ReadBuffers())
        _ = pool.buffer(allocator: ByteBufferAllocator()) { _ in }
        pool.record(actualReadBytes: 10)
        let (_, room) = pool.buffer(allocator: ByteBufferAllocator()) { $0.writableBytes }
        #expect(room == ReadBuffers.least)
    }
}
