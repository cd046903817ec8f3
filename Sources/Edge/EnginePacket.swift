enum EnginePacket {
    static let separator: UInt8 = 0x1E
}
