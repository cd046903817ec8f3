import NotificationCore
import Testing

@Suite("rules for text")
struct TextRulesTests {
    @Test(
        "links to http, https, mailto and the site itself are allowed",
        arguments: [
            "http://example.com", "https://example.com/a?b#c", "HTTPS://EXAMPLE.COM", "hTtP://x", "https://[::1]/", "https://münchen.example/ü", "mailto:a@example.com",
            "MAILTO:a@example.com", "/", "/chat/room/456", "/a//b", "/javascript:alert(1)", "?page=2", "#top", "/🚢", "https://user@example.com",
        ])
    func allowed(_ link: String) {
        #expect(TextRules.isAllowedLink(link))
    }

    @Test(
        "all others are not",
        arguments: [
            "", "javascript:alert(1)", "JavaScript:alert(1)", "java\tscript:alert(1)", "java\nscript:alert(1)", " javascript:alert(1)", "\u{1}javascript:alert(1)",
            "data:text/html,x", "vbscript:x", "file:///etc/passwd", "ftp://example.com", "//evil.example", "///evil.example", "/\\evil.example", "\\\\evil.example",
            "/\t/evil.example", "\t//evil.example", "/\n/evil.example", "//\u{FE0F}evil.example", "//\u{200D}evil.example", "//\u{301}evil.example", "https://", "http://",
            "https:///evil.example", "https://?x", "https://#x", "https:/evil.example", "https:evil.example", "http//example.com", "mailto:", "chat/room", "example.com",
            "https://exa mple.com", "https://example.com/\u{0}", "https://example.com/\r\nX: y", "https://example.com\\@evil.example", "https://example.com/\u{202E}gpj.exe",
            "\u{FEFF}javascript:alert(1)", "/a\u{2066}b", "https://example.com/\u{85}", "https\u{FE0F}://example.com", "blob:https://example.com", "about:blank",
        ])
    func refused(_ link: String) {
        #expect(!TextRules.isAllowedLink(link))
    }

    @Test(
        "control characters and bidirectional overrides are taken out, and nothing else",
        arguments: [
            ("", "", ""), ("plain 🚢 é", "plain 🚢 é", "plain 🚢 é"), ("a\nb\tc", "abc", "a\nb\tc"), ("a\r\nb", "ab", "a\nb"), ("\u{0}\u{1B}[31m\u{7F}\u{9F}", "[31m", "[31m"),
            ("\u{202E}abc\u{202C}", "abc", "abc"), ("\u{2066}a\u{2069}\u{202A}b", "ab", "ab"), ("\u{200F}right\u{200E}", "\u{200F}right\u{200E}", "\u{200F}right\u{200E}"),
            ("<b>&amp;</b>", "<b>&amp;</b>", "<b>&amp;</b>"), ("e\u{301}", "e\u{301}", "e\u{301}"), ("👩‍👩‍👧", "👩‍👩‍👧", "👩‍👩‍👧"),
        ])
    func cleaned(_ text: String, _ line: String, _ lines: String) {
        #expect(Array(TextRules.clean(text, multiline: false).utf8) == Array(line.utf8))
        #expect(Array(TextRules.clean(text, multiline: true).utf8) == Array(lines.utf8))
    }
}
