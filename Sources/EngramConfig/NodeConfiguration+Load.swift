import EngramCore
import TOMLKit

extension NodeConfiguration {
  /// Reads `federation.toml` and the files of `peers.d` beside it.
  ///
  /// A variable `ENGRAM_<TABLE>_<KEY>` replaces a key of `[node]`, `[limits]`, `[federation]` or `[queue]`.
  /// Other variables that begin alike are left alone: container platforms set such names for their services.
  ///
  /// - Throws: every problem there is. Nothing of a configuration with a problem is used.
  package static func load(
    path: String, environment: [String: String] = [:]
  ) throws(ConfigurationError) -> NodeConfiguration {
    let document: ConfigurationDocument
    do {
      document = try ConfigurationDocument.read(path)
    } catch {
      throw ConfigurationError(problems: [error])
    }
    var problems = unknownTables(in: document)
    var node = TableReader(document, table: "node", environment: environment)
    let basics = Basics(reading: &node, in: document)
    let (limits, limitProblems) = readLimits(document, environment)
    let (federation, federationProblems) = readFederation(document, environment)
    let (queue, queueProblems) = readQueue(document, environment)
    let (permissions, permissionProblems) = readPermissions(document, ownName: basics?.name)
    let sources = PeerSources(beside: document)
    problems += node.problems + limitProblems + federationProblems + queueProblems + permissionProblems
    problems += sources.problems
    problems += sources.conflicts(ownName: basics?.name, ownFile: path)
    // Without a problem the required keys are there, but the compiler cannot know it.
    guard problems.isEmpty, let basics else { throw ConfigurationError(problems: problems) }
    return NodeConfiguration(
      name: basics.name, dataDirectory: basics.dataDirectory, listen: basics.listen,
      advertise: basics.advertise, certificatePath: basics.certificatePath,
      privateKeyPath: basics.privateKeyPath, authorityPath: basics.authorityPath,
      identityKeyPath: basics.identityKeyPath, adminSocketPath: basics.adminSocketPath,
      logLevel: basics.logLevel, logFormat: basics.logFormat, metrics: basics.metrics, limits: limits,
      federation: federation, queue: queue, permissions: permissions, peers: sources.peers,
      peerPlaces: sources.places)
  }

  private static func unknownTables(in document: ConfigurationDocument) -> [ConfigurationProblem] {
    document.root.keys.sorted().filter { !Schema.tables.contains($0) }.map { key in
      let isTable = document.root[key]?.type == .table
      let suggestion = Suggestion.nearest(to: key, among: Schema.tables)
      let isNodeKey = Schema.nodeKeys.contains(key)
      return ConfigurationProblem(
        file: document.file, line: document.lines[key], key: key,
        message: isTable ? "is not a table of this file" : "stands outside every table",
        hint: isNodeKey && !isTable
          ? "put it below [node]"
          : suggestion.map { "did you mean [\($0)]?" }
            ?? "known here: [federation], [limits], [node], [[peer]], [permissions], [queue]")
    }
  }

  private static func readLimits(
    _ document: ConfigurationDocument, _ environment: [String: String]
  ) -> (Limits, [ConfigurationProblem]) {
    var reader = TableReader(document, table: "limits", environment: environment)
    let limits = Limits(
      envelopeBytesMax: reader.integer(Schema.Limits.envelopeBytes),
      ttlMax: .seconds(reader.integer(Schema.Limits.ttlDays) * 86_400),
      groupCommitMax: reader.integer(Schema.Limits.groupCommit),
      clientsMax: reader.integer(Schema.Limits.clients),
      webSocketConnectionsMax: reader.integer(Schema.Limits.webSockets),
      sessionLifetime: .seconds(reader.integer(Schema.Limits.sessionSeconds)),
      drainTime: .seconds(reader.integer(Schema.Limits.drainSeconds)),
      signInsPerSecond: reader.integer(Schema.Limits.signInsPerSecond))
    reader.refuseUnknown(Schema.Limits.all.map(\.name))
    return (limits, reader.problems)
  }

  private static func readFederation(
    _ document: ConfigurationDocument, _ environment: [String: String]
  ) -> (Federation, [ConfigurationProblem]) {
    var reader = TableReader(document, table: "federation", environment: environment)
    let federation = Federation(
      windowMessages: reader.integer(Schema.Federation.windowMessages),
      windowBytes: reader.integer(Schema.Federation.windowBytes),
      dialBackoffMin: .milliseconds(reader.integer(Schema.Federation.backoffMinMilliseconds)),
      dialBackoffMax: .milliseconds(reader.integer(Schema.Federation.backoffMaxMilliseconds)),
      idlePingInterval: .seconds(reader.integer(Schema.Federation.idlePingSeconds)))
    if federation.dialBackoffMin > federation.dialBackoffMax {
      reader.refuse(Schema.Federation.backoffMinMilliseconds, above: Schema.Federation.backoffMaxMilliseconds)
    }
    reader.refuseUnknown(Schema.Federation.all.map(\.name))
    return (federation, reader.problems)
  }
}

extension NodeConfiguration {
  private static func readQueue(
    _ document: ConfigurationDocument, _ environment: [String: String]
  ) -> (Queue, [ConfigurationProblem]) {
    var reader = TableReader(document, table: "queue", environment: environment)
    let queue = Queue(
      attemptsMax: reader.integer(Schema.Queue.attempts),
      backoffMin: .milliseconds(reader.integer(Schema.Queue.backoffMinMilliseconds)),
      backoffMax: .milliseconds(reader.integer(Schema.Queue.backoffMaxMilliseconds)),
      ageStep: .seconds(reader.integer(Schema.Queue.ageStepSeconds)),
      deliveredAfter: .milliseconds(reader.integer(Schema.Queue.deliveredMilliseconds)),
      lease: .seconds(reader.integer(Schema.Queue.leaseSeconds)))
    if queue.backoffMin > queue.backoffMax {
      reader.refuse(Schema.Queue.backoffMinMilliseconds, above: Schema.Queue.backoffMaxMilliseconds)
    }
    reader.refuseUnknown(Schema.Queue.all.map(\.name))
    return (queue, reader.problems)
  }

  private static func readPermissions(
    _ document: ConfigurationDocument, ownName: NodeName?
  ) -> (Permissions, [ConfigurationProblem]) {
    var reader = TableReader(document, table: "permissions", environment: [:])
    let expected = "a list of addresses of this node's clients, such as [\"ops@acme.example\"]"
    let broadcast = reader.values(Schema.Permissions.broadcast, expected: expected) { text -> Address? in
      guard let address = try? Address(text), ownName.map({ $0 == address.node }) ?? true else { return nil }
      return address
    }
    if broadcast.count > Schema.Permissions.broadcastersMax {
      reader.note(
        Schema.Permissions.broadcast, "must not have more than \(Schema.Permissions.broadcastersMax) entries")
    }
    reader.refuseUnknown([Schema.Permissions.broadcast])
    return (Permissions(broadcast: Set(broadcast).sorted()), reader.problems)
  }
}

/// The `[node]` table.
private struct Basics {
  let name: NodeName
  let dataDirectory: String
  let listen: HostPort
  let advertise: HostPort?
  let certificatePath: String
  let privateKeyPath: String
  let authorityPath: String
  let identityKeyPath: String
  let adminSocketPath: String
  let logLevel: LogLevel
  let logFormat: LogFormat
  let metrics: MetricsAccess

  /// Nil when a required key is missing or wrong, which the reader then holds as a problem.
  init?(reading reader: inout TableReader, in document: ConfigurationDocument) {
    let name = reader.nodeName()
    let dataDirectory = reader.path("data_dir", isRequired: true)
    let listen = reader.value("listen", isRequired: true, expected: HostPort.expectation) { HostPort($0) }
    advertise = reader.value("advertise", expected: HostPort.expectation) { HostPort($0).flatMap(\.dialable) }
    let folder = dataDirectory ?? document.folder
    certificatePath = reader.path("certificate") ?? FilePaths.absolute("tls/node.pem", in: folder)
    privateKeyPath = reader.path("private_key") ?? FilePaths.absolute("tls/node.key", in: folder)
    authorityPath = reader.path("ca") ?? FilePaths.absolute("tls/ca.pem", in: folder)
    identityKeyPath = reader.path("identity_key") ?? FilePaths.absolute("keys/node.key", in: folder)
    adminSocketPath = reader.path("admin_socket") ?? FilePaths.absolute("admin.sock", in: folder)
    logLevel = reader.choice("log_level", fallback: LogLevel.info)
    logFormat = reader.choice("log_format", fallback: LogFormat.text)
    metrics = reader.choice("metrics", fallback: MetricsAccess.local)
    reader.refuseUnknown(Schema.nodeKeys)
    if adminSocketPath.utf8.count > Schema.socketPathBytesMax {
      reader.note(
        "admin_socket",
        "is longer than the \(Schema.socketPathBytesMax) bytes that a Unix socket's path may have",
        hint: "choose a shorter path, for instance below /run")
    }
    guard let name, let dataDirectory, let listen else { return nil }
    (self.name, self.dataDirectory, self.listen) = (name, dataDirectory, listen)
  }
}

extension HostPort {
  /// Itself, unless its port 0 asks the system to choose one: nobody can dial that.
  var dialable: HostPort? { port == 0 ? nil : self }
}
