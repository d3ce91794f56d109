import ArgumentParser
import EngramConfig
import EngramCore
import EngramWire
import Foundation

struct AdminCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "admin",
    abstract: "Talk to the running node over its Unix socket.",
    discussion: """
      The socket belongs to the user that runs the node; only that user and root are answered. --config and \
      --json may stand before or after the subcommand.

      Examples:
        engram-node admin --config federation.toml status
        engram-node admin --config federation.toml client invite planner
        engram-node admin --config federation.toml peer add globex.card
      """,
    subcommands: [
      StatusCommand.self, ClientCommand.self, PeerCommand.self, QueueCommand.self, ClockCommand.self,
    ])

  @OptionGroup var options: AdminOptions
}

/// Options that every admin command shares; they may stand before or after the subcommand.
struct AdminOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp("The node's configuration (default: federation.toml).", valueName: "file"),
    completion: .file(extensions: ["toml"]))
  var config: String?

  @Flag(help: "Print JSON.")
  var json = false
}

/// One command's way to the node.
struct AdminConnection {
  let json: Bool
  let configPath: String
  private let client: HTTPClient

  /// `outer` are the options given before the subcommand, `inner` those after it.
  init(_ outer: AdminOptions, _ inner: AdminOptions) throws {
    json = outer.json || inner.json
    configPath = inner.config ?? outer.config ?? "federation.toml"
    var source = ConfigurationOption()
    source.config = configPath
    let configuration = try source.load()
    do throws(WireError) {
      client = try HTTPClient(endpoint: .unix(path: configuration.adminSocketPath))
    } catch { throw Self.failure(error) }
  }

  /// Sends a request; answers are JSON.
  func send<Answer: Decodable>(
    _ method: String, _ path: String, body: (any Encodable)? = nil, as _: Answer.Type = Answer.self
  ) async throws -> Answer {
    try decode(try await raw(method, path, body: body))
  }

  func decode<Answer: Decodable>(_ data: [UInt8], as _: Answer.Type = Answer.self) throws -> Answer {
    do { return try wireDecoder().decode(Answer.self, from: Data(data)) } catch {
      throw Failure(.failed, "the node's answer could not be read", hint: "is it of the same version?")
    }
  }

  /// Sends a request and hands out the body as it came.
  @discardableResult
  func raw(_ method: String, _ path: String, body: (any Encodable)? = nil) async throws -> [UInt8] {
    var request = WireRequest(method, "/admin/v1/\(path)")
    if let body {
      request.headers = [WireHeader("Content-Type", "application/json")]
      request.body = Array(try wireEncoder().encode(body))
    }
    let response: WireResponse
    do throws(WireError) { response = try await client.send(request) } catch { throw Self.failure(error) }
    guard (200..<300).contains(response.status) else { throw Self.failure(response) }
    return response.body
  }

  private static func failure(_ error: WireError) -> Failure {
    switch error {
    case .refused, .unreachable:
      Failure(.unavailable, "the node is not running", hint: "start it with `engram-node serve`")
    case .timeout: Failure(.temporary, "the node did not answer in time")
    case .invalidRequest: Failure(.usage, "a name holds characters that no name has")
    default: Failure(.failed, "the node's answer could not be read: \(error)")
    }
  }

  private static func failure(_ response: WireResponse) -> Failure {
    struct Problem: Decodable {
      var title: String
      var code: UInt16?
      var hint: String?
      var detail: String?
    }
    guard let problem = try? wireDecoder().decode(Problem.self, from: Data(response.body)) else {
      return Failure(.failed, "the node answered with status \(response.status)")
    }
    let code: Failure.Code =
      response.status == 403 ? .notAllowed : response.status == 503 ? .temporary : .failed
    return Failure(
      code, problem.detail ?? problem.title, hint: problem.hint,
      refusal: problem.code.flatMap(ErrorCode.init(rawValue:)))
  }
}

struct StatusCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "status", abstract: "What the node holds and how its peers are.",
    discussion: """
      Example:
        engram-node admin status --json
      """)
  @ParentCommand var admin: AdminCommand
  @OptionGroup var options: AdminOptions

  func run() async throws {
    try await reporting {
      let connection = try AdminConnection(admin.options, options)
      let data = try await connection.raw("GET", "status")
      if connection.json { return print(String(decoding: data, as: UTF8.self)) }
      let status = try connection.decode(data, as: StatusAnswer.self)
      print("node      \(status.name)\nnode id   \(status.nodeId)\nready     \(status.ready ? "yes" : "no")")
      print("clients   \(status.clients) (\(status.devices) devices, \(status.sessions) sessions)")
      print(
        "messages  \(status.messages) (\(status.openDeliveries) deliveries open, "
          + "\(status.notices) receipts waiting)"
      )
      print("store     \(status.storeBytes) bytes\nsince     \(timeText(status.startedMs))")
      if !status.peers.isEmpty {
        print("")
        printPeers(status.peers)
      }
    }
  }
}

struct StatusAnswer: Decodable {
  var name: String
  var nodeId: String
  var ready: Bool
  var clients: Int
  var devices: Int
  var sessions: Int
  var messages: Int
  var openDeliveries: Int
  var notices: Int
  var storeBytes: Int
  var startedMs: UInt64
  var peers: [PeerAnswer]
}
