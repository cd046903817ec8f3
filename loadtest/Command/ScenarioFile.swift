import Foundation
import Yams

/// A scenario of one's own: parts that follow each other, in YAML.
///
///     phases:
///       - {name: calm, rate: 200, duration: 30, warm-up: 5}
///       - {rate: 2000, duration: 10, publish: direct, group: 10, mix: 0.1}
///
/// Absent settings are those of the command line. Errors name the line.
struct ScenarioFile {
    /// Parts of one file.
    private static let phasesAtMost = 1_000

    static func phases(_ text: String, name: String, base: SendPhase) throws(LoadtestError) -> [SendPhase] {
        let root: Node?
        do { root = try Yams.compose(yaml: text) } catch { throw .usage("'\(name)' is no YAML (\(error))", advice) }
        guard let root, let mapping = root.mapping else { throw wrong(name, root?.mark, "it has no 'phases'") }
        for (key, _) in mapping where key.string != "phases" { throw wrong(name, key.mark, "'\(key.string ?? "?")' is not known") }
        guard let list = mapping["phases"]?.sequence, !list.isEmpty, list.count <= phasesAtMost else {
            throw wrong(name, mapping["phases"]?.mark ?? root.mark, "'phases' must be a list of 1 to \(phasesAtMost)")
        }
        var phases: [SendPhase] = []
        for (index, node) in list.enumerated() { phases.append(try phase(node, index + 1, name, base)) }
        return phases
    }

    private static func phase(_ node: Node, _ number: Int, _ file: String, _ base: SendPhase) throws(LoadtestError) -> SendPhase {
        guard let mapping = node.mapping else { throw wrong(file, node.mark, "a phase is a mapping") }
        var phase = base
        phase.name = "phase \(number)"
        phase.warmup = 0
        var hasDuration = false
        for (key, value) in mapping {
            func bounded(_ range: ClosedRange<Double>) throws(LoadtestError) -> Double {
                guard let number = value.float, range.contains(number) else {
                    throw wrong(file, value.mark, "'\(key.string ?? "?")' must be a number from \(range.lowerBound) to \(range.upperBound)")
                }
                return number
            }
            switch key.string {
            case "name": phase.name = value.string ?? phase.name
            case "rate": phase.rate = try bounded(0.001...1_000_000)
            case "duration":
                phase.duration = try bounded(0.001...604_800)
                hasDuration = true
            case "warm-up", "warmup": phase.warmup = try bounded(0...3_600)
            case "mix": phase.mix = try bounded(0...10)
            case "connections":
                let connections = try bounded(1...10_000_000)
                guard connections == connections.rounded() else { throw wrong(file, value.mark, "'connections' must be a whole number") }
                phase.connections = Int(connections)
            case "group":
                let group = try bounded(1...10_000)
                guard group == group.rounded() else { throw wrong(file, value.mark, "'group' must be a whole number") }
                phase.group = Int(group)
            case "before":
                guard let command = value.string, !command.isEmpty else { throw wrong(file, value.mark, "'before' must be a command") }
                phase.before = command
            case "publish":
                guard let publish = value.string.flatMap(Publish.init(rawValue:)) else {
                    throw wrong(file, value.mark, "'publish' must be one of \(Publish.allCases.map(\.rawValue).joined(separator: ", "))")
                }
                phase.publish = publish
            default: throw wrong(file, key.mark, "'\(key.string ?? "?")' is not known")
            }
        }
        guard hasDuration else { throw wrong(file, node.mark, "a phase has no 'duration'") }
        return phase
    }

    private static let advice = "See loadtest/README.md for what a scenario holds"

    private static func wrong(_ file: String, _ mark: Mark?, _ problem: String) -> LoadtestError {
        .usage("\(file):\(mark?.line ?? 1): \(problem)", advice)
    }

    /// Yams' place in a file, not this tool's mark in time.
    private typealias Mark = Yams.Mark
}
