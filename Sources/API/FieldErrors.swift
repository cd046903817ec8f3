import NotificationCore

extension [FieldError] {
    /// Enough to see what is wrong: a body can have as many mistakes as members.
    static let bound = 20

    /// Those past ``bound`` are left out.
    mutating func add(_ pointer: String, _ detail: String) {
        if self.count < Self.bound { self.append(FieldError(pointer: pointer, detail: detail)) }
    }
}
