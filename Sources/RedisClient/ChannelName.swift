/// A channel's name, equal byte by byte as in Redis. (Two `String`s are equal when they look the same: "é" in one scalar and in two.)
struct ChannelName: Sendable, Hashable {
    let string: String

    init(_ string: String) {
        self.string = string
    }

    static func == (left: ChannelName, right: ChannelName) -> Bool {
        left.string.utf8.elementsEqual(right.string.utf8)
    }

    func hash(into hasher: inout Hasher) {
        var string = string
        string.withUTF8 { hasher.combine(bytes: UnsafeRawBufferPointer($0)) }
    }
}
