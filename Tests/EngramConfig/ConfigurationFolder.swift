import EngramConfig
import EngramCore
import Foundation
import Testing

/// A folder of its own for one test, removed with it.
final class ConfigurationFolder {
  static let minimal = """
    [node]
    name = "acme.example"
    data_dir = "data"
    listen = "127.0.0.1:7443"

    """

  let path: String

  init(_ text: String = minimal) throws {
    path = FileManager.default.temporaryDirectory.appendingPathComponent("engram-\(UUID().uuidString)").path
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    try write("federation.toml", text)
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }

  var main: String { path + "/federation.toml" }

  func write(_ name: String, _ text: String) throws {
    let target = URL(fileURLWithPath: path).appendingPathComponent(name)
    try FileManager.default.createDirectory(
      at: target.deletingLastPathComponent(), withIntermediateDirectories: true)
    try Data(text.utf8).write(to: target)
  }

  func load(_ environment: [String: String] = [:]) throws -> NodeConfiguration {
    try NodeConfiguration.load(path: main, environment: environment)
  }

  /// The problems of a configuration that has to have some.
  func problems(
    _ environment: [String: String] = [:], sourceLocation: SourceLocation = #_sourceLocation
  ) -> [ConfigurationProblem] {
    do throws(ConfigurationError) {
      _ = try NodeConfiguration.load(path: main, environment: environment)
      Issue.record("the configuration was accepted", sourceLocation: sourceLocation)
      return []
    } catch {
      return error.problems
    }
  }
}

/// A well-formed node id for each number.
func nodeID(_ number: Int) -> String {
  "engram-node:" + String(repeating: "a", count: 50) + ["b", "c", "d", "e"][number] + "q"
}

func peerTable(_ name: String, number: Int = 0) -> String {
  """
  [[peer]]
  name = "\(name)"
  endpoint = "127.0.0.1:7444"
  node_id = "\(nodeID(number))"
  ca = "\(name).pem"

  """
}
