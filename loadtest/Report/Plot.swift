import Foundation

/// Lines over time or over the nines, as an SVG element.
struct Plot {
    struct Line {
        var name: String
        var points: [(x: Double, y: Double)]
    }

    enum XScale { case time, nines }
    enum YScale { case linear, logarithmic }

    var title: String
    var unit: String
    var x: XScale
    var y: YScale
    var lines: [Line]
    var marks: [Mark] = []
    /// Marks with their names written beside them; of more, the names show under the pointer only.
    private static let namesAtMost = 12

    private static let width = 940.0
    private static let height = 260.0
    private static let (left, right, top, bottom) = (58.0, 14.0, 18.0, 26.0)
    private static let colours = 8

    var svg: String {
        let points = lines.flatMap(\.points)
        let low = x == .nines ? 0 : points.map(\.x).min() ?? 0
        let high = max(points.map(\.x).max() ?? 1, low + 0.001)
        let top = max(points.map(\.y).max() ?? 1, 0.001)
        let bottom = points.map(\.y).min() ?? 0
        let ticks = y == .linear ? Self.linearTicks(to: top) : Self.logarithmicTicks(from: bottom, to: top)
        func across(_ value: Double) -> Double { Self.left + (value - low) / (high - low) * (Self.width - Self.left - Self.right) }
        func up(_ value: Double) -> Double {
            let (first, last) = (ticks[0], ticks[ticks.count - 1])
            let share = y == .linear ? (value - first) / (last - first) : log(value / first) / log(last / first)
            return Self.height - Self.bottom - share * (Self.height - Self.top - Self.bottom)
        }
        var svg = "<figure><figcaption>\(HTMLPage.escaped(title)) <small>\(HTMLPage.escaped(unit))</small>"
        for (index, line) in lines.enumerated() where lines.count > 1 {
            svg += "<small><i style=\"background:var(--l\(index % Self.colours))\"></i>\(HTMLPage.escaped(line.name))</small>"
        }
        svg += "</figcaption><svg viewBox=\"0 0 \(Int(Self.width)) \(Int(Self.height))\" role=\"img\" aria-label=\"\(HTMLPage.escaped(title))\">"
        for tick in ticks {
            let at = Self.coordinate(up(tick))
            svg += "<path class=\"g\" d=\"M\(Int(Self.left)) \(at)H\(Int(Self.width - Self.right))\"/>"
            svg += "<text x=\"\(Int(Self.left) - 8)\" y=\"\(at)\" dy=\"4\" text-anchor=\"end\">\(Self.label(tick))</text>"
        }
        for (at, name) in horizontalTicks(low, high) {
            let place = Self.coordinate(across(at))
            svg += "<path class=\"g\" d=\"M\(place) \(Int(Self.top))V\(Int(Self.height - Self.bottom))\"/>"
            svg += "<text x=\"\(place)\" y=\"\(Int(Self.height) - 8)\" text-anchor=\"middle\">\(name)</text>"
        }
        for (index, mark) in marks.enumerated() where mark.at >= low && mark.at <= high {
            let place = across(mark.at)
            let name = HTMLPage.escaped(mark.name)
            let (first, last) = (Int(Self.top), Int(Self.height - Self.bottom))
            if let until = mark.until {
                let width = max(0, across(min(until, high)) - place)
                svg += "<rect class=\"b\" x=\"\(Self.coordinate(place))\" y=\"\(first)\" width=\"\(Self.coordinate(width))\" height=\"\(last - first)\"><title>\(name)</title></rect>"
            }
            svg += "<path class=\"m\" d=\"M\(Self.coordinate(place)) \(first)V\(last)\"><title>\(name)</title></path>"
            guard marks.count <= Self.namesAtMost else { continue }
            // Names take turns in three rows, and the last ones stand on the left of their line.
            let end = place > Self.width - 140
            svg += "<text class=\"mt\" x=\"\(Self.coordinate(place + (end ? -4 : 4)))\" y=\"\(first + 8 + index % 3 * 13)\""
            svg += " text-anchor=\"\(end ? "end" : "start")\">\(name)</text>"
        }
        for (index, line) in lines.enumerated() where line.points.count > 1 {
            let path = line.points.map { "\(Self.coordinate(across($0.x))) \(Self.coordinate(up($0.y)))" }.joined(separator: "L")
            svg += "<path style=\"stroke:var(--l\(index % Self.colours))\" d=\"M\(path)\"><title>\(HTMLPage.escaped(line.name))</title></path>"
        }
        return svg + "</svg></figure>"
    }

    private func horizontalTicks(_ low: Double, _ high: Double) -> [(Double, String)] {
        switch x {
        case .time:
            let step = Self.step(high - low, parts: 8)
            return stride(from: (low / step).rounded(.up) * step, through: high, by: step).map { ($0, Self.label($0) + " s") }
        case .nines:
            let names = ["0", "90 %", "99 %", "99.9 %", "99.99 %", "99.999 %", "99.9999 %", "99.99999 %"]
            return names.enumerated().filter { Double($0.offset) <= high }.map { (Double($0.offset), $0.element) }
                + (high >= log10(2) ? [(log10(2), "50 %")] : [])
        }
    }

    private static func linearTicks(to top: Double) -> [Double] {
        let step = step(top, parts: 4)
        return Array(stride(from: 0, through: (top / step).rounded(.up) * step + step / 2, by: step))
    }

    private static func logarithmicTicks(from bottom: Double, to top: Double) -> [Double] {
        let first = Int(log10(bottom).rounded(.down))
        let last = max(first + 1, Int(log10(top).rounded(.up)))
        return (first...last).map { pow(10, Double($0)) }
    }

    /// A round number near the length of one of so many parts.
    private static func step(_ length: Double, parts: Double) -> Double {
        let rough = length / parts
        let base = pow(10, log10(rough).rounded(.down))
        return base * ([1, 2, 5, 10].first { $0 * base >= rough } ?? 10)
    }

    private static func coordinate(_ value: Double) -> String { String(format: "%.1f", value) }

    static func label(_ value: Double) -> String {
        if value >= 10_000 { return String(format: "%.3g", value / 1_000) + "k" }
        return String(format: value >= 100 || value == value.rounded() ? "%.0f" : value >= 10 ? "%.1f" : "%.3g", value)
    }
}
