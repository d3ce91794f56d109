import EngramConfig
import Foundation
import Testing

/// A text that has to be refused, and where and why.
struct BadText: Sendable, CustomTestStringConvertible {
  let why: String
  let text: String
  let line: Int?
  let key: String?
  let message: String
  let hint: String?

  init(
    _ why: String, _ text: String, line: Int? = nil, key: String? = nil, message: String, hint: String? = nil
  ) {
    (self.why, self.text, self.line, self.key, self.message, self.hint) = (
      why, text, line, key, message, hint
    )
  }

  var testDescription: String { why }

  /// The smallest right configuration with one line of `[node]` in place of another, or one more.
  static func node(
    _ why: String, _ line: String, replacing key: String? = nil, at number: Int, message: String,
    hint: String? = nil
  ) -> BadText {
    let lines = ConfigurationFolder.minimal.split(separator: "\n").map(String.init)
    let kept = lines.map { key != nil && $0.hasPrefix(key! + " ") ? line : $0 }
    let name = String(line.prefix { $0 != " " })
    return BadText(
      why, (key == nil ? kept + [line] : kept).joined(separator: "\n") + "\n", line: number,
      key: "node.\(name)",
      message: message, hint: hint)
  }

  static func more(
    _ why: String, _ text: String, line: Int?, key: String?, message: String, hint: String? = nil
  ) -> BadText {
    BadText(
      why, ConfigurationFolder.minimal + text, line: line.map { $0 + 4 }, key: key, message: message,
      hint: hint)
  }

  static let all: [BadText] = [
    BadText("a file that is not TOML", "[node]\nname = = 3\n", line: 2, message: "is not TOML"),
    BadText("a key twice", "[node]\nname = \"a\"\nname = \"b\"\n", line: 3, message: "is not TOML"),
    BadText(
      "a zero in a string", "[node]\nname = \"a\\u0000b\"\n", line: 2, message: "holds a zero character"),
    BadText("a zero in the file", "[node]\n\0", line: 2, message: "holds a zero character"),
    BadText(
      "a file that is too large", String(repeating: "#\n", count: 600_000), message: "larger than 1048576"),
    .node(
      "a capital in a name", "name = \"Acme.example\"", replacing: "name", at: 2,
      message: "lower-case DNS name"),
    .node(
      "a letter beyond ASCII", "name = \"äcme.example\"", replacing: "name", at: 2,
      message: "lower-case DNS name"),
    .node(
      "a name ending in a dot", "name = \"acme.example.\"", replacing: "name", at: 2, message: "DNS name"),
    .node(
      "a name that is too long", "name = \"\(String(repeating: "a.", count: 127))\"", replacing: "name",
      at: 2,
      message: "at most 253"),
    .node(
      "a number for a name", "name = 5", replacing: "name", at: 2,
      message: "must be a string, found an integer"),
    .node("an empty path", "data_dir = \"\"", replacing: "data_dir", at: 3, message: "must not be empty"),
    .node("a list for a path", "data_dir = []", replacing: "data_dir", at: 3, message: "found an array"),
    .node(
      "an address without port", "listen = \"127.0.0.1\"", replacing: "listen", at: 4, message: "host:port"),
    .node("a port nobody can dial", "advertise = \"acme.example:0\"", at: 5, message: "host:port"),
    .node("a true for a path", "ca = true", at: 5, message: "found a bool"),
    .node(
      "a log level that is none", "log_level = \"inof\"", at: 5, message: "one of trace, debug",
      hint: "did you mean \"info\"?"),
    .node("a log format that is none", "log_format = \"xml\"", at: 5, message: "one of json, text"),
    .node(
      "a socket path that is too long", "admin_socket = \"/run/\(String(repeating: "a", count: 103))\"",
      at: 5,
      message: "longer than the 107 bytes"),
    .node("a mistyped key", "lisen = \"x\"", at: 5, message: "not a key", hint: "did you mean listen?"),
    .node(
      "a key of nowhere", "colour = \"x\"", at: 5, message: "not a key", hint: "known here: admin_socket"),
    BadText(
      "a key before its table", "name = \"acme.example\"\n" + ConfigurationFolder.minimal, line: 1,
      key: "name",
      message: "outside every table", hint: "put it below [node]"),
    .more(
      "a mistyped table", "[limit]\n", line: 1, key: "limit", message: "not a table",
      hint: "did you mean [limits]?"),
    .more("a table of nowhere", "[x]\n", line: 1, key: "x", message: "not a table", hint: "known here"),
    .more(
      "a number below its range", "[limits]\nsession_seconds = 29\n", line: 2, key: "limits.session_seconds",
      message: "from 30 to 300, found 29", hint: "left out, it is 300"),
    .more(
      "a number above its range", "[limits]\nmax_ttl_days = 31\n", line: 2, key: "limits.max_ttl_days",
      message: "from 1 to 30"),
    .more(
      "a fraction", "[limits]\ndrain_seconds = 1.5\n", line: 2, key: "limits.drain_seconds",
      message: "must be an integer, found a floating-point number"),
    .more(
      "a wait that shrinks", "[federation]\ndial_backoff_min_ms = 5000\ndial_backoff_max_ms = 400\n", line: 2,
      key: "federation.dial_backoff_min_ms", message: "must not be above dial_backoff_max_ms"),
    .more(
      "a queue that never tries", "[queue]\nattempts_max = 0\n", line: 2, key: "queue.attempts_max",
      message: "from 1 to 1000, found 0", hint: "left out, it is 20"),
    .more(
      "a rest of two days", "[queue]\nbackoff_max_ms = 172800000\n", line: 2, key: "queue.backoff_max_ms",
      message: "from 100 to 86400000"),
    .more(
      "a rest that shrinks", "[queue]\nbackoff_min_ms = 5000\nbackoff_max_ms = 4999\n", line: 2,
      key: "queue.backoff_min_ms", message: "must not be above backoff_max_ms",
      hint: "left out, they are 1000 and 600000"),
    .more(
      "priorities without steps", "[queue]\nage_step_seconds = 0\n", line: 2,
      key: "queue.age_step_seconds", message: "from 1 to 3600"),
    .more(
      "a receipt that waits too long", "[queue]\ndelivered_after_ms = 60001\n", line: 2,
      key: "queue.delivered_after_ms", message: "from 0 to 60000"),
    .more(
      "a lease of a day", "[queue]\nlease_seconds = 86400\n", line: 2, key: "queue.lease_seconds",
      message: "from 1 to 43200"),
    .more(
      "a mistyped key of the queue", "[queue]\nlease_second = 30\n", line: 2, key: "queue.lease_second",
      message: "not a key", hint: "did you mean lease_seconds?"),
    .more(
      "one bracket for peers", "[peer]\n", line: 1, key: "peer", message: "list of tables",
      hint: "two brackets"),
    BadText(
      "a value for a table", "limits = 5\n" + ConfigurationFolder.minimal, line: 1, key: "limits",
      message: "must be a table, found an integer", hint: "write [limits]"),
    BadText(
      "numbers for peers", "peer = [1]\n" + ConfigurationFolder.minimal, line: 1, key: "peer",
      message: "must hold tables only"),
    .more(
      "a number for enabled", peerTable("b.example") + "enabled = 1\n", line: 6, key: "peer.enabled",
      message: "true or false, found an integer"),
    .more(
      "a node as its own peer", peerTable("acme.example"), line: 1, key: "peer.name",
      message: "is this node itself"),
    .more(
      "two peers of one identity", peerTable("b.example") + peerTable("c.example"), line: 6,
      key: "peer.node_id",
      message: "is also that of b.example"),
  ]
}

@Suite("a configuration that is wrong")
struct ConfigurationProblemTests {
  /// The control: without the one change the same text is accepted.
  @Test("the text that the samples are made from is right")
  func control() throws {
    _ = try ConfigurationFolder(ConfigurationFolder.minimal + peerTable("b.example") + "enabled = true\n")
      .load()
  }

  @Test("is refused with file, line, key and reason", arguments: BadText.all)
  func refused(sample: BadText) throws {
    let folder = try ConfigurationFolder(sample.text)
    let problems = folder.problems()
    #expect(problems.count == 1, "\(problems)")
    let problem = try #require(problems.first)
    #expect(problem.file == folder.main)
    #expect(problem.line == sample.line)
    #expect(problem.key == sample.key)
    #expect(problem.message.contains(sample.message), "\(problem.message)")
    if let hint = sample.hint { #expect(problem.hint?.contains(hint) == true, "\(problem)") }
  }

  @Test("all problems are reported at once, and printed one a line")
  func allAtOnce() throws {
    let folder = try ConfigurationFolder(
      "[node]\nname = 1\nlistn = \"a\"\n\n[limits]\nmax_ttl_days = 0\n[[peer]]\nname = \"B\"\n")
    let problems = folder.problems()
    #expect(
      problems.map(\.key) == [
        "node.name", "node.data_dir", "node.listen", "node.listn", "limits.max_ttl_days", "peer.name",
        "peer.endpoint", "peer.node_id", "peer.ca",
      ])
    #expect(problems.map(\.line) == [2, 1, 1, 3, 6, 8, 7, 7, 7])
    let text = ConfigurationError(problems: problems).description
    #expect(
      text.hasPrefix("\(folder.main):2: node.name: must be a string, found an integer\nhint: put it in"))
  }

  @Test("a file that is missing, a folder, and bytes that are no text are refused")
  func unreadable() throws {
    let folder = try ConfigurationFolder()
    try Data([0x5B, 0xFF, 0xFE]).write(to: URL(fileURLWithPath: folder.main))
    #expect(folder.problems().map(\.message) == ["is not UTF-8 text"])
    try FileManager.default.removeItem(atPath: folder.main)
    #expect(folder.problems().map(\.message) == ["does not exist"])
    try FileManager.default.createDirectory(atPath: folder.main, withIntermediateDirectories: true)
    #expect(folder.problems().map(\.message) == ["cannot be read"])
  }

  @Test(
    "a variable that is wrong is named, and not the file",
    arguments: [
      ("ENGRAM_NODE_LISTEN", "here"), ("ENGRAM_NODE_LOG_LEVEL", "loud"),
      ("ENGRAM_LIMITS_DRAIN_SECONDS", "ten"),
      ("ENGRAM_LIMITS_DRAIN_SECONDS", "0"), ("ENGRAM_NODE_DATA_DIR", ""),
      ("ENGRAM_QUEUE_LEASE_SECONDS", "0"), ("ENGRAM_QUEUE_ATTEMPTS_MAX", "many"),
    ])
  func environment(variable: String, value: String) throws {
    let problems = try ConfigurationFolder().problems([variable: value])
    #expect(problems.map(\.key) == [variable])
    #expect(problems.map(\.file) == ["environment"])
    #expect(problems.map(\.line) == [nil])
  }

  @Test("a node id is 52 canonical characters after its prefix")
  func nodeIDs() throws {
    let right = nodeID(0)
    let wrong = [
      String(right.dropLast()), right + "a", String(right.dropLast()) + "b", right.uppercased(),
      "engram:" + right.dropFirst(12), String(right.dropLast(2)) + "1q",
    ]
    for id in wrong {
      let text =
        ConfigurationFolder.minimal + peerTable("b.example").replacingOccurrences(of: right, with: id)
      let folder = try ConfigurationFolder(text)
      #expect(folder.problems().map(\.key) == ["peer.node_id"], "\(id)")
    }
  }

  @Test("lines are found behind comments, strings over several lines, quoted and dotted keys")
  func lines() throws {
    let text = """
      # [limits]
      [node]
      "name" = "acme.example" # name = 1
      data_dir = '''
      [limits]
      drain_seconds = 0'''
      listen = "127.0.0.1:0"

      [  limits ]
      drain_seconds = 0

      """
    #expect(try ConfigurationFolder(text).problems().map(\.line) == [10])
    let dotted = ConfigurationFolder.minimal + "\r\n[federation]\r\n\r\nidle_ping_seconds = 0\r\n"
    #expect(try ConfigurationFolder(dotted).problems().map(\.line) == [8])
    let top = "limits.drain_seconds = 0\nlimits.max_ttl_days = 0\n" + ConfigurationFolder.minimal
    #expect(try ConfigurationFolder(top).problems().map(\.line) == [2, 1])
    let inline = "limits = { drain_seconds = 0 }\n" + ConfigurationFolder.minimal
    #expect(try ConfigurationFolder(inline).problems().map(\.line) == [1])
  }
}
