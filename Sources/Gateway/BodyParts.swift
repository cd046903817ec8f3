public import NIOCore

/// The body of a request as it comes, for one reader. A handful of parts waits at most; then the socket is not read until the reader has caught up.
public struct BodyParts: AsyncSequence, Sendable {
    public typealias Element = ByteBuffer
    typealias Producer = NIOThrowingAsyncSequenceProducer<
        ByteBuffer, any Error, NIOAsyncSequenceProducerBackPressureStrategies.HighLowWatermark, BodyFlow
    >

    private let sequence: Producer

    private init(sequence: Producer) {
        self.sequence = sequence
    }

    public struct Iterator: AsyncIteratorProtocol {
        var base: Producer.AsyncIterator

        public mutating func next() async throws -> ByteBuffer? { try await self.base.next() }
    }

    public func makeAsyncIterator() -> Iterator { Iterator(base: self.sequence.makeAsyncIterator()) }

    /// - Parameter flow: is told when more is wanted, and when nobody reads any more.
    static func make(_ flow: BodyFlow) -> (source: Producer.Source, parts: BodyParts) {
        let made = Producer.makeSequence(
            elementType: ByteBuffer.self, failureType: (any Error).self,
            // Parts are what one read brought, up to 64 KiB.
            backPressureStrategy: NIOAsyncSequenceProducerBackPressureStrategies.HighLowWatermark(lowWatermark: 2, highWatermark: 8),
            finishOnDeinit: false, delegate: flow)
        return (made.source, BodyParts(sequence: made.sequence))
    }
}

/// Leads from the reader of a body to its connection.
struct BodyFlow: NIOAsyncSequenceProducerDelegate {
    let handler: NIOLoopBound<GatewayHandler>
    let eventLoop: any EventLoop

    func produceMore() {
        self.eventLoop.execute { self.handler.value.bodyWanted() }
    }

    /// The route's answer follows, and says what becomes of the rest.
    func didTerminate() {}
}
