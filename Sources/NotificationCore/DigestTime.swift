/// When e-mails that are gathered go out.
public enum DigestTime {
    /// The hour of a daily one, by the clocks of its reader.
    static let dailyHour: Int64 = 8

    /// The first time after `now`; nil for what is not gathered.
    static func next(_ digest: Catalogue.Digest, after now: Timestamp, zone: TimeZoneName) -> Timestamp? {
        let (hour, day): (Int64, Int64) = (3600, 86_400)
        switch digest {
        case .immediate: return nil
        case .hourly: return Timestamp(seconds: (now.seconds / hour + 1) * hour)
        case .daily:
            let offset = zone.offset(at: now.seconds)
            let local = now.seconds + offset
            var next = local / day * day + Self.dailyHour * hour
            if next <= local { next += day }
            // By the clocks as they are then: they may be changed in between.
            return Timestamp(seconds: next - zone.offset(at: next - offset))
        }
    }
}
