import Foundation

/// A program's own description of itself, as `--experimental-dump-help` prints it: every command that there
/// is, those to come included.
package struct DescribedCommand: Decodable {
  package struct Argument: Decodable {
    private struct Word: Decodable { let name: String }
    private struct Ignored: Decodable { init(from decoder: any Decoder) {} }

    package let kind: String
    package let abstract: String?
    package let valueName: String?
    private let names: [Word]?
    private let completionKind: [String: Ignored]?

    package var label: String { names?.first?.name ?? valueName ?? "?" }
    package var isCompleted: Bool { completionKind?.isEmpty == false }
    /// A file or a folder, by what its help calls it.
    package var isPath: Bool { kind != "flag" && ["dir", "file"].contains(valueName ?? "") }
  }

  package let commandName: String
  package let abstract: String?
  package let discussion: String?
  private let subcommands: [DescribedCommand]?
  private let arguments: [Argument]?

  package var options: [Argument] { arguments ?? [] }

  /// - Parameter dump: what the program printed.
  /// - Returns: the commands that do something, with the words that lead to them.
  package static func leaves(of dump: String) throws -> [(path: String, command: DescribedCommand)] {
    struct Top: Decodable { let command: DescribedCommand }
    return try JSONDecoder().decode(Top.self, from: Data(dump.utf8)).command.leaves([])
  }

  private func leaves(_ path: [String]) -> [(path: String, command: DescribedCommand)] {
    let inner = (subcommands ?? []).filter { $0.commandName != "help" }
    let path = path + [commandName]
    return inner.isEmpty ? [(path.joined(separator: " "), self)] : inner.flatMap { $0.leaves(path) }
  }
}
