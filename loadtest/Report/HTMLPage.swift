import Foundation

/// A report as one file that needs nothing else: tables and inline SVG, light and dark.
struct HTMLPage {
    var title: String
    var ok: Bool
    /// What was run, in a line.
    var subtitle: String
    var tiles: [(name: String, value: String)]
    var plots: [Plot]
    var text: String

    var page: String {
        """
        <!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
        <title>\(Self.escaped(title))</title><style>\(Self.style)</style></head><body><main>
        <h1>\(Self.escaped(title)) <span class="\(ok ? "ok" : "bad")">\(ok ? "passed" : "failed")</span></h1>
        <p class="sub">\(Self.escaped(subtitle))</p>
        <section class="tiles">\(tiles.map { "<div><b>\(Self.escaped($0.value))</b><span>\(Self.escaped($0.name))</span></div>" }.joined())</section>
        \(plots.filter { $0.lines.contains { $0.points.count > 1 } }.map(\.svg).joined(separator: "\n"))
        <h2>In words</h2><pre>\(Self.escaped(text))</pre>
        </main></body></html>

        """
    }

    static func escaped(_ text: String) -> String {
        text.replacingOccurrences(of: "&", with: "&amp;").replacingOccurrences(of: "<", with: "&lt;").replacingOccurrences(of: ">", with: "&gt;")
            .replacingOccurrences(of: "\"", with: "&quot;")
    }

    private static let style = """
        :root{color-scheme:light dark;--bg:#fbfaf7;--fg:#22252b;--dim:#6b7079;--grid:#e4e1d9;--card:#fff;--ok:#17734a;--bad:#b3261e;\
        --l0:#2b6cb0;--l1:#c05621;--l2:#8b8f98;--l3:#2f855a;--l4:#805ad5;--l5:#b83280;--l6:#0e8f9c;--l7:#975a16}
        @media(prefers-color-scheme:dark){:root{--bg:#15171b;--fg:#e6e4df;--dim:#9a9ea7;--grid:#2c3037;--card:#1c1f25;--ok:#5fd39b;--bad:#ff8a80;\
        --l0:#63a4ff;--l1:#ff9e5e;--l2:#8b909b;--l3:#68d391;--l4:#b794f4;--l5:#f687b3;--l6:#5ed5e0;--l7:#d9a55b}}
        body{margin:0;background:var(--bg);color:var(--fg);font:15px/1.5 system-ui,sans-serif}main{max-width:980px;margin:0 auto;padding:32px 20px}
        h1{font-size:26px;margin:0}h1 span{font-size:15px;padding:3px 10px;border-radius:99px;border:1px solid;vertical-align:4px;margin-left:8px}
        .ok{color:var(--ok)}.bad{color:var(--bad)}.sub{color:var(--dim);margin:6px 0 20px}h2{font-size:16px;margin:28px 0 6px}
        .tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(120px,1fr));gap:10px}.tiles div{background:var(--card);border:1px solid var(--grid);\
        border-radius:8px;padding:10px 14px}.tiles b{display:block;font-size:20px;font-variant-numeric:tabular-nums}.tiles span{color:var(--dim);font-size:13px}
        figure{margin:22px 0 0;background:var(--card);border:1px solid var(--grid);border-radius:8px;padding:14px 14px 8px}
        figcaption{font-weight:600;display:flex;flex-wrap:wrap;gap:4px 14px;align-items:baseline}figcaption small{font-weight:400;color:var(--dim);white-space:nowrap}
        figcaption i{display:inline-block;width:16px;height:3px;border-radius:2px;margin-right:5px;vertical-align:3px}
        svg{width:100%;height:auto;display:block}svg text{fill:var(--dim);font:11px system-ui,sans-serif}svg .g{stroke:var(--grid)}
        svg path{fill:none;stroke-width:1.8;stroke-linejoin:round}svg .m{stroke:var(--bad);stroke-dasharray:4 3}svg .mt{fill:var(--bad)}svg .b{fill:var(--bad);opacity:.1}
        pre{background:var(--card);border:1px solid var(--grid);border-radius:8px;padding:14px;overflow:auto;font-size:12.5px;white-space:pre-wrap;overflow-wrap:anywhere}
        """
}

extension Plot {
    /// What a report has of a run second by second.
    static func of(
        intervals: [Interval], curve: [CurvePoint], samples: [Sample], marks: [Mark]
    ) -> [Plot] {
        let intervals = intervals.filter { $0.latency.count > 0 }
        func line(_ name: String, _ value: (Interval) -> Double) -> Line { Line(name: name, points: intervals.map { ($0.at, max(value($0), 0.01)) }) }
        var plots = [
            Plot(
                title: "Latency from due to receipt", unit: "ms", x: .time, y: .logarithmic,
                lines: [line("p50") { $0.latency.p50 }, line("p99") { $0.latency.p99 }, line("max") { $0.latency.max }], marks: marks
            ),
            Plot(
                title: "Percentiles of publish to receipt", unit: "ms", x: .nines, y: .logarithmic,
                lines: [Line(name: "receipt", points: curve.map { (-log10(1 - $0.percentile / 100), max($0.ms, 0.01)) })]
            ),
            Plot(
                title: "Throughput", unit: "events/s", x: .time, y: .linear,
                lines: [
                    Line(name: "sent", points: samples.map { ($0.at, Double($0.sent)) }), Line(name: "received", points: samples.map { ($0.at, Double($0.received)) }),
                    Line(name: "errors", points: samples.map { ($0.at, Double($0.errors)) }),
                ], marks: marks
            ),
            Plot(title: "Streams", unit: "live", x: .time, y: .linear, lines: [Line(name: "live", points: samples.map { ($0.at, Double($0.live)) })], marks: marks),
        ]
        let names = Set(samples.flatMap(\.processes.keys)).sorted()
        guard !names.isEmpty else { return plots }
        plots.append(
            Plot(
                // Logarithmic, since a database's processes each count what they share, and would press the others to the ground.
                title: "Memory of the servers", unit: "MiB of RSS", x: .time, y: .logarithmic,
                lines: names.map { name in
                    Line(name: name, points: samples.compactMap { s in s.processes[name].map { (s.at, max(1, Double($0.resident) / 1_048_576)) } })
                }, marks: marks
            )
        )
        plots.append(
            Plot(
                title: "CPU of the servers", unit: "% of a core", x: .time, y: .linear,
                lines: names.map { name in
                    Line(
                        name: name,
                        points: zip(samples, samples.dropFirst()).compactMap { before, now in
                            guard let a = before.processes[name], let b = now.processes[name], now.at > before.at else { return nil }
                            return (now.at, max(0, b.cpu - a.cpu) / (now.at - before.at) * 100)
                        }
                    )
                }, marks: marks
            )
        )
        return plots
    }
}
