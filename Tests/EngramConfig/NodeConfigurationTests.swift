import EngramConfig
import EngramCore
import Foundation
import Testing

@Suite("a configuration that is right")
struct NodeConfigurationTests {
  @Test("three keys are enough, and everything else has its default")
  func defaults() throws {
    let folder = try ConfigurationFolder()
    let configuration = try folder.load()
    #expect(configuration.name.text == "acme.example")
    #expect(configuration.dataDirectory == folder.path + "/data")
    #expect(configuration.listen == HostPort("127.0.0.1:7443"))
    #expect(configuration.advertise == nil)
    #expect(configuration.certificatePath == folder.path + "/data/tls/node.pem")
    #expect(configuration.privateKeyPath == folder.path + "/data/tls/node.key")
    #expect(configuration.authorityPath == folder.path + "/data/tls/ca.pem")
    #expect(configuration.identityKeyPath == folder.path + "/data/keys/node.key")
    #expect(configuration.adminSocketPath == folder.path + "/data/admin.sock")
    #expect(configuration.logLevel == .info)
    #expect(configuration.logFormat == .text)
    #expect(configuration.metrics == .local)
    #expect(configuration.limits.signInsPerSecond == 50)
    #expect(configuration.limits.envelopeBytesMax == 16 << 20)
    #expect(configuration.limits.ttlMax == .seconds(30 * 86_400))
    #expect(configuration.limits.groupCommitMax == 1000)
    #expect(configuration.limits.clientsMax == 10_000)
    #expect(configuration.limits.webSocketConnectionsMax == 10_000)
    #expect(configuration.limits.sessionLifetime == .seconds(300))
    #expect(configuration.limits.drainTime == .seconds(10))
    #expect(configuration.federation.windowMessages == 1024)
    #expect(configuration.federation.windowBytes == 8 << 20)
    #expect(configuration.federation.dialBackoffMin == .milliseconds(200))
    #expect(configuration.federation.dialBackoffMax == .seconds(60))
    #expect(configuration.federation.idlePingInterval == .seconds(15))
    #expect(configuration.queue.attemptsMax == 20)
    #expect(configuration.queue.backoffMin == .seconds(1))
    #expect(configuration.queue.backoffMax == .seconds(600))
    #expect(configuration.queue.ageStep == .seconds(60))
    #expect(configuration.queue.deliveredAfter == .milliseconds(200))
    #expect(configuration.queue.lease == .seconds(30))
    #expect(configuration.permissions.broadcast == [])
    #expect(configuration.peers == [])
  }

  @Test("the example at the top of the repository says what is the default anyway")
  func example() throws {
    let root = URL(fileURLWithPath: #filePath)
      .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
    let example = try NodeConfiguration.load(path: root.appendingPathComponent("federation.toml").path)
    let minimal = try ConfigurationFolder().load()
    #expect(example.limits == minimal.limits)
    #expect(example.federation == minimal.federation)
    #expect(example.queue == minimal.queue)
    #expect(example.permissions == minimal.permissions)
    #expect(example.logLevel == minimal.logLevel)
    #expect(example.identityKeyPath == root.path + "/data/keys/node.key")
    #expect(example.advertise?.description == "node.acme.example:7443")
    let peer = try #require(example.peers.first)
    #expect(peer.name.text == "globex.example")
    #expect(peer.isEnabled)
    #expect(peer.authorityPath == root.path + "/peers.d/globex.example.pem")
  }

  @Test("the example shows every key there is")
  func exampleIsComplete() throws {
    let root = URL(fileURLWithPath: #filePath)
      .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
    let text = try String(contentsOf: root.appendingPathComponent("federation.toml"), encoding: .utf8)
    // The hint on an unknown key lists the known ones, which makes it the oracle here.
    for table in ["node", "limits", "federation", "peer", "permissions", "queue"] {
      let header = table == "peer" ? "[[peer]]" : "[\(table)]"
      let base = table == "node" ? "" : ConfigurationFolder.minimal
      let folder = try ConfigurationFolder(base + "\(header)\nzzzzzzzzzzzz = 1\n")
      let problem = try #require(folder.problems().first { $0.key == "\(table).zzzzzzzzzzzz" })
      let keys = try #require(problem.hint?.split(separator: ": ").last).split(separator: ", ")
      #expect(keys.count >= (table == "permissions" ? 1 : 5))
      for key in keys { #expect(text.contains("\n\(key) = "), "\(table).\(key) is not in the example") }
    }
  }

  @Test("an absolute path stays as it is, and one that climbs is resolved from the file's folder")
  func paths() throws {
    let text = """
      [node]
      name = "acme.example"
      data_dir = "../elsewhere/./data"
      listen = "[::1]:0"
      ca = "/etc/engram/ca.pem"
      """
    let folder = try ConfigurationFolder(text)
    let configuration = try folder.load()
    let parent = (folder.path as NSString).deletingLastPathComponent
    #expect(configuration.dataDirectory == parent + "/elsewhere/data")
    #expect(configuration.authorityPath == "/etc/engram/ca.pem")
    #expect(configuration.listen.description == "[::1]:0")
  }

  @Test("those who may write to everybody are clients of this node")
  func permissions() throws {
    let text =
      ConfigurationFolder.minimal
      + "[permissions]\nbroadcast = [\"ops@acme.example\", \"boss@acme.example\", \"ops@acme.example\"]\n"
    let configuration = try ConfigurationFolder(text).load()
    #expect(configuration.permissions.broadcast.map(\.text) == ["boss@acme.example", "ops@acme.example"])
    let bad = [
      "\"ops@acme.example\"", "[\"ops\"]", "[\"OPS@acme.example\"]", "[\"ops@globex.example\"]", "[1]",
      "true",
    ]
    for value in bad {
      let folder = try ConfigurationFolder(
        ConfigurationFolder.minimal + "[permissions]\nbroadcast = \(value)\n")
      let problems = folder.problems()
      #expect(problems.map(\.key) == ["permissions.broadcast"], "\(value)")
      #expect(problems.map(\.line) == [6], "\(value)")
    }
  }

  @Test("a variable of the environment replaces a key in each of the four tables")
  func environment() throws {
    let configuration = try ConfigurationFolder().load([
      "ENGRAM_NODE_LISTEN": "0.0.0.0:8443", "ENGRAM_NODE_LOG_LEVEL": "debug",
      "ENGRAM_NODE_DATA_DIR": "/srv/engram",
      "ENGRAM_LIMITS_DRAIN_SECONDS": "3", "ENGRAM_FEDERATION_WINDOW_MESSAGES": "7",
      "ENGRAM_QUEUE_ATTEMPTS_MAX": "2", "ENGRAM_QUEUE_DELIVERED_AFTER_MS": "0",
      // Set by container platforms for a service called engram-node.
      "ENGRAM_NODE_SERVICE_HOST": "10.0.0.1", "ENGRAM_NODE_PORT": "tcp://10.0.0.1:7443",
    ])
    #expect(configuration.listen == HostPort("0.0.0.0:8443"))
    #expect(configuration.logLevel == .debug)
    #expect(configuration.dataDirectory == "/srv/engram")
    #expect(configuration.identityKeyPath == "/srv/engram/keys/node.key")
    #expect(configuration.limits.drainTime == .seconds(3))
    #expect(configuration.federation.windowMessages == 7)
    #expect(configuration.queue.attemptsMax == 2)
    #expect(configuration.queue.deliveredAfter == .zero)
  }

  @Test("a variable can stand in for a required key that the file leaves out")
  func environmentAlone() throws {
    let folder = try ConfigurationFolder("[node]\nname = \"acme.example\"\ndata_dir = \"data\"\n")
    #expect(folder.problems().map(\.key) == ["node.listen"])
    #expect(try folder.load(["ENGRAM_NODE_LISTEN": "127.0.0.1:0"]).listen.port == 0)
  }

  @Test("peers of the file and of peers.d are one list, ascending by name")
  func peers() throws {
    let folder = try ConfigurationFolder(
      ConfigurationFolder.minimal + peerTable("initech.example", number: 1))
    try folder.write("peers.d/globex.example.toml", peerTable("globex.example") + "enabled = false\n")
    try folder.write("peers.d/.globex.example.toml.half", "not TOML")
    try folder.write("peers.d/globex.example.pem", "not TOML either")
    let peers = try folder.load().peers
    #expect(peers.map(\.name.text) == ["globex.example", "initech.example"])
    #expect(peers.map(\.isEnabled) == [false, true])
    #expect(
      peers.map(\.authorityPath)
        == ["/peers.d/globex.example.pem", "/initech.example.pem"].map { folder.path + $0 })
    #expect(peers[1].endpoint == HostPort("127.0.0.1:7444"))
    #expect(peers[1].nodeID.description == nodeID(1))
  }
}

@Suite("host and port")
struct HostPortTests {
  @Test(
    "what can be dialled is accepted and printed as it came",
    arguments: [
      "127.0.0.1:7443", "[::1]:1", "[2001:db8::7]:65535", "localhost:7443", "node.acme.example:7443",
      "Acme.example:1",
    ])
  func accepted(text: String) {
    #expect(HostPort(text)?.description == text)
  }

  @Test(
    "anything else is refused",
    arguments: [
      "", ":", ":7443", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:-1", "127.0.0.1:+1",
      "127.0.0.1:07443", "127.0.0.1: 1", "127.0.0.300:1", "::1:7443", "[::1]", "[127.0.0.1]:1",
      "[acme.example]:1",
      "a_b:1", "-a.example:1", "a..b:1", "https://acme.example:1", "\u{212A}elvin.example:1", "127.0.0.1\0:1",
    ])
  func refused(text: String) {
    #expect(HostPort(text) == nil)
  }
}
