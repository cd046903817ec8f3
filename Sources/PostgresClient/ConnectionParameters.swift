import CLibpq

/// What `PQconnectStartParams` is given: our defaults, then the URL over them, then what must not be otherwise.
struct ConnectionParameters {
    private(set) var keywords: [String] = []
    private(set) var values: [String] = []

    /// - Parameter skippedHosts: how many hosts at the front of the URL's list go to its end. libpq tries its hosts one after the other but leaves
    ///   time-outs of a non-blocking attempt to us, so a silent first host would hide the others for ever.
    init(_ configuration: PostgresConfiguration, skippedHosts: Int) {
        add("target_session_attrs", "read-write")
        add("fallback_application_name", configuration.applicationName)
        add("gssencmode", "disable")
        add("keepalives_idle", "10")
        add("keepalives_interval", "5")
        add("keepalives_count", "3")
        add("tcp_user_timeout", "15000")
        add("dbname", configuration.url)
        add("client_encoding", "UTF8")
        if skippedHosts > 0, let given = Self.parse(configuration.url) {
            for keyword in ["host", "hostaddr", "port"] {
                guard let list = given[keyword] else { continue }
                add(keyword, Self.rotate(list, by: skippedHosts))
            }
        }
    }

    private mutating func add(_ keyword: String, _ value: String) {
        keywords.append(keyword)
        values.append(value)
    }

    static func rotate(_ list: String, by count: Int) -> String {
        let items = list.split(separator: ",", omittingEmptySubsequences: false)
        let first = count % items.count
        return (items[first...] + items[..<first]).joined(separator: ",")
    }

    /// What the URL itself sets, nil where libpq cannot read it.
    static func parse(_ url: String) -> [String: String]? {
        guard let options = PQconninfoParse(url, nil) else { return nil }
        defer { PQconninfoFree(options) }
        var given: [String: String] = [:]
        var option = options
        while let keyword = option.pointee.keyword {
            if let value = option.pointee.val { given[String(cString: keyword)] = String(cString: value) }
            option += 1
        }
        return given
    }
}
