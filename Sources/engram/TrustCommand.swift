internal import ArgumentParser
internal import EngramClient

struct TrustCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "trust",
    abstract: "Show or approve a correspondent's identity.",
    discussion: """
      Prints the safety number of the two of you. Compare it over another channel, by voice or on paper: if \
      both sides see the same twelve groups, nobody stands in between, your own node included. Then approve \
      it.

      When somebody's identity key has changed, messages to and from them are held until it is approved.

      Examples:
        engram trust worker@globex.example
        engram trust worker@globex.example --approve
      """)

  @Argument(help: "The correspondent.")
  var address: String

  @Flag(help: "You have compared the safety number: this is the right key.")
  var approve = false

  @OptionGroup var common: CommonOptions

  func run() async throws {
    let status = try await common.withClient { client in
      let report = approve ? try await client.approve(address) : try await client.trust(address)
      try Terminal.write(common.json ? jsonLine(TrustForm(report)) : text(report))
      return report.state == .changed ? ExitStatus.untrusted : .done
    }
    guard status == .done else { throw ExitCode(status.rawValue) }
  }

  private func text(_ report: TrustReport) -> String {
    var text =
      "address: \(report.address)\nstate: \(report.state.rawValue)\nsince: \(timeText(report.firstSeenMs))\n"
    text += "identity key: \(report.identityKey)\nsafety number: \(report.safetyNumber)\n"
    if let offered = report.offeredSafetyNumber {
      text += "\nanother identity key is offered: \(report.offeredIdentityKey ?? "")\n"
      text += "its safety number: \(offered)\n"
      text += "compare it over another channel before you run this again with --approve\n"
    }
    return text
  }
}

struct TrustForm: Encodable {
  let address: String
  let state: String
  let identityKey: String
  let firstSeenMs: UInt64
  let safetyNumber: String
  let offeredIdentityKey: String?
  let offeredSafetyNumber: String?

  init(_ report: TrustReport) {
    (address, state, identityKey) = (report.address, report.state.rawValue, report.identityKey)
    (firstSeenMs, safetyNumber) = (report.firstSeenMs, report.safetyNumber)
    (offeredIdentityKey, offeredSafetyNumber) = (report.offeredIdentityKey, report.offeredSafetyNumber)
  }
}

struct DirectoryCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "directory",
    abstract: "Look up an address.",
    discussion: """
      The node's answer is checked before it is shown: its signature, the identity that is pinned for the \
      address, the device list and every certificate and prekey.

      Example:
        engram directory worker@globex.example
      """)

  @Argument(help: "The address to look up.")
  var address: String

  @OptionGroup var common: CommonOptions

  func run() async throws {
    try await common.withClient { client in
      let form = DirectoryForm(try await client.directory(address))
      try Terminal.write(common.json ? jsonLine(form) : form.text)
    }
  }
}

struct DirectoryForm: Encodable {
  struct Device: Encodable {
    let kid: String
    let certificateNotAfterMs: UInt64
    let prekeyNotAfterMs: UInt64
  }
  let address: String
  let node: String
  let nodeID: String
  let identityKey: String
  let deviceListVersion: UInt64
  let issuedMs: UInt64
  let devices: [Device]

  init(_ entry: DirectoryEntry) {
    (address, node, nodeID) = (entry.address, entry.node, entry.nodeID)
    (identityKey, deviceListVersion, issuedMs) = (entry.identityKey, entry.deviceListVersion, entry.issuedMs)
    devices = entry.devices.map {
      Device(
        kid: $0.kid, certificateNotAfterMs: $0.certificateNotAfterMs, prekeyNotAfterMs: $0.prekeyNotAfterMs)
    }
  }

  var text: String {
    var text = "address: \(address)\nnode: \(node)\nnode id: \(nodeID)\nidentity key: \(identityKey)\n"
    text += "device list: version \(deviceListVersion)\n"
    for device in devices {
      text += "device: \(device.kid)  prekey until \(timeText(device.prekeyNotAfterMs))\n"
    }
    return text
  }
}
