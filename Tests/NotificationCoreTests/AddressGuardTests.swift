import NotificationCore
import Testing

@Suite("addresses that a webhook may be sent to")
struct AddressGuardTests {
    @Test(
        "one that is not of the public internet is refused",
        arguments: [
            "0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.100.100.200", "100.127.255.255", "127.0.0.1", "127.255.255.254",
            "169.254.0.1", "169.254.169.254", "169.254.170.2", "172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.0.192", "192.0.2.1", "192.88.99.1",
            "192.168.0.1", "192.168.255.255", "198.18.0.1", "198.19.255.255", "198.51.100.7", "203.0.113.9", "224.0.0.1", "239.255.255.255", "240.0.0.1",
            "255.255.255.255", "168.63.129.16", "::", "::1", "::2", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::ffff:a00:1", "::ffff:0:10.0.0.1",
            "64:ff9b::7f00:1", "64:ff9b::8.8.8.8", "64:ff9b:1::1", "64:ff9b:1:ffff::a9fe:a9fe", "100::1", "100:0:0:1::1", "2001::1", "2001:0:53aa:64c::1",
            "2001:2::1", "2001:10::1", "2001:20::1", "2001:1ff:ffff::1", "2001:db8::1", "2002:7f00:1::", "2002:a00:1::1", "2002:808:808::1", "3fff::1", "5f00::1",
            "fc00::1", "fd00:ec2::254", "fdff::1", "fe80::1", "febf::1", "fec0::1", "feff::1", "ff02::1", "ff0e::1", "4000::1", "8000::1", "e000::1", "1::1",
        ])
    func refused(_ text: String) throws {
        let address = try #require(IPAddress(text))
        #expect(AddressGuard().refusal(of: address) != nil)
    }

    @Test(
        "one of the public internet is not",
        arguments: [
            "1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.1", "168.63.129.15", "168.63.129.17",
            "169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0", "191.255.255.255", "192.0.1.1", "192.0.3.0", "192.88.98.255", "192.88.100.0",
            "192.167.255.255", "192.169.0.0", "198.17.255.255", "198.20.0.0", "198.51.99.255", "198.51.101.0", "203.0.112.255", "203.0.114.0", "223.255.255.255",
            "2001:200::1", "2001:4860:4860::8888", "2001:db7:ffff::1", "2001:db9::1", "2003::1", "2400:cb00::1", "2606:4700::1111", "2a00:1450::1", "3ffe::1",
        ])
    func accepted(_ text: String) throws {
        let address = try #require(IPAddress(text))
        #expect(AddressGuard().refusal(of: address) == nil)
    }

    @Test("what the operator allows is allowed, and nothing beside it")
    func exceptions() throws {
        let allowed = AddressGuard(allowed: ["127.0.0.0/8", "fd12::/16", "10.1.2.3"].compactMap { IPRange($0) })
        #expect(allowed.allowed.count == 3)
        for text in ["127.0.0.1", "127.9.9.9", "fd12::5", "10.1.2.3", "8.8.8.8"] { #expect(allowed.refusal(of: try #require(IPAddress(text))) == nil) }
        for text in ["::1", "::ffff:127.0.0.1", "fd13::5", "10.1.2.4", "64:ff9b::7f00:1"] { #expect(allowed.refusal(of: try #require(IPAddress(text))) != nil) }
    }

    @Test(
        "what is no range is none",
        arguments: ["", "/", "/8", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/+8", "10.0.0.1/8", "::/129", "::1/64", "10.0.0/8", "localhost", "0x7f.0.0.1", "1.2.3.4/8/8"])
    func ranges(_ text: String) {
        #expect(IPRange(text) == nil)
    }

    @Test("a range of nothing but its prefix holds its whole family")
    func whole() throws {
        let (four, six) = (try #require(IPRange("0.0.0.0/0")), try #require(IPRange("::/0")))
        let (one, other) = (try #require(IPAddress("9.8.7.6")), try #require(IPAddress("9:8::6")))
        #expect(four.contains(one) && six.contains(other) && !four.contains(other) && !six.contains(one))
    }
}

@Suite("URLs of webhooks")
struct WebhookURLTests {
    @Test(
        "a host is found",
        arguments: [
            ("http://example.com", "example.com"), ("https://example.com:8443/a/b?c=d", "example.com"), ("HTTPS://Example.com/", "Example.com"),
            ("http://127.0.0.1:9000/hook", "127.0.0.1"), ("http://[::1]:80/", "::1"), ("https://[2606:4700::1111]", "2606:4700::1111"), ("https://a_b.example/@x", "a_b.example"),
            ("https://example.com?x=http://y@z", "example.com"),
        ])
    func accepted(_ text: String, _ host: String) throws {
        #expect(try WebhookURL(text).host == host)
    }

    @Test(
        "what is none is refused",
        arguments: [
            "", "http://", "https:///x", "ftp://example.com", "file:///etc/passwd", "gopher://x", "//example.com", "example.com", "javascript:alert(1)", "http:example.com",
            "http://user@example.com", "http://user:pass@example.com/", "http://@example.com", "http://example.com:0", "http://example.com:65536", "http://example.com:",
            "http://example.com:8o", "http://exa mple.com", "http://example.com/\r\nX: y", "http://example.com/\u{0}", "http://exämple.com", "http://[::1", "http://[::1]x",
            "http://[127.0.0.1]", "http://[fe80::1%25eth0]/", "http://a:b:c", "http://example.com\\@127.0.0.1/", "http://.", "http://example.com/#x", "http://a%2eb/",
            "https://example.com/" + String(repeating: "a", count: 1981),
        ])
    func refused(_ text: String) {
        #expect(throws: WebhookURL.Refusal.self) { try WebhookURL(text) }
    }

    @Test("one of 2,000 characters is the longest")
    func longest() throws {
        #expect(try WebhookURL("https://example.com/" + String(repeating: "a", count: 1980)).text.utf8.count == 2000)
    }
}
