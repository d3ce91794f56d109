internal import ArgumentParser
internal import EngramClient
internal import Foundation

struct DeviceCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "device",
    abstract: "Add, list and revoke the devices of this client.",
    discussion: """
      A client is an identity key with up to 16 devices, each with keys and a home of its own. The identity \
      key stays in the home that `engram init` made; only there devices are approved and revoked.

      Three steps add one:
        new$  engram device request --home new --address planner@acme.example --identity KEY \\
                --node node.acme.example:7443 --ca ca.pem --out request.txt
        old$  engram device approve request.txt --out answer.txt
        new$  engram device accept answer.txt --home new

      KEY is the identity key that `engram whoami` shows on the old device. Neither file is secret. Before \
      you approve, compare the code that both sides show: it is what keeps somebody else's device out.
      """,
    subcommands: [
      DeviceRequestCommand.self, DeviceApproveCommand.self, DeviceAcceptCommand.self,
      DeviceListCommand.self, DeviceRevokeCommand.self,
    ])
}

struct DeviceRequestCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "request",
    abstract: "In a new home: make a device's keys, and a request to be one of a client's.",
    discussion: """
      The keys never leave this home, and the identity key never comes here. Run again, it prints the same \
      request while that can still be answered: a day.

      Example:
        engram device request --home ~/agents/planner-2 --address planner@acme.example --identity KEY \\
          --node node.acme.example:7443 --ca ca.pem --out request.txt
      """)

  @Option(help: ArgumentHelp("Whose device this is to be.", valueName: "name@node"))
  var address: String

  @Option(
    help: ArgumentHelp(
      "That client's identity key, from `engram whoami` in its home. Nothing else is believed.",
      valueName: "key"))
  var identity: String

  @Option(help: ArgumentHelp("Where the client's node listens.", valueName: "host:port"))
  var node: String

  @Option(
    help: ArgumentHelp("PEM file of the certificate authority that vouches for the node.", valueName: "file"),
    completion: .file())
  var ca: String

  @Option(
    help: ArgumentHelp("The name in the node's certificate, where that is not HOST.", valueName: "name"))
  var nodeName: String?

  @Option(
    help: ArgumentHelp("Write the request here instead of printing it.", valueName: "file"),
    completion: .file())
  var out: String?

  @Flag(help: "Leave the key file without a passphrase.")
  var noPassphrase = false

  @OptionGroup var common: CommonOptions

  func validate() throws {
    guard !noPassphrase || common.passphraseFile == nil else {
      throw ValidationError("--no-passphrase and --passphrase-file contradict each other")
    }
  }

  func run() async throws {
    let passphrase = try self.passphrase()
    let request = try await EngramClient.requestDevice(
      home: common.homePath, node: node, caFile: ca, address: address, identityKey: identity,
      passphrase: passphrase, nodeName: nodeName)
    if passphrase == nil {
      Terminal.note(
        "note: the key file has no passphrase; whoever can read \(common.homePath)/client.key is this device")
    }
    if let out { try writeDeviceFile(request.text, to: out) }
    if common.json { return try Terminal.write(jsonLine(DeviceRequestForm(request, file: out))) }
    Terminal.note("device: \(request.device)\ncomparison code: \(request.comparisonCode)")
    Terminal.note("next: `engram device approve FILE` in the home with the identity key; compare the code")
    try Terminal.write(out.map { "request: \($0)\n" } ?? request.text + "\n")
  }

  /// Asked for once more where the keys are there already.
  private func passphrase() throws -> String? {
    let chosen = Passphrase(file: common.passphraseFile)
    if let needs = try? EngramClient.needsPassphrase(home: common.homePath) {
      return needs ? try chosen.existing() : nil
    }
    return noPassphrase ? nil : try chosen.chosen()
  }
}

struct DeviceApproveCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "approve",
    abstract: "Where the identity key is: make a device of this client out of a request.",
    discussion: """
      Shows whose request it is and its comparison code, and asks. Say yes only if the new device shows the \
      same code: whoever you approve can read what is sent to this client from then on, and speak for it.

      Example:
        engram device approve request.txt --out answer.txt
      """)

  @Argument(
    help: ArgumentHelp("What `engram device request` wrote.", valueName: "file"), completion: .file())
  var file: String

  @Option(
    help: ArgumentHelp("Write the answer here instead of printing it.", valueName: "file"),
    completion: .file())
  var out: String?

  @Flag(help: "Do not ask: the code was compared already.")
  var yes = false

  @OptionGroup var common: CommonOptions

  func run() async throws {
    let text = try readDeviceFile(file)
    let request = try EngramClient.read(deviceRequest: text)
    Terminal.note("a device asks to be one of \(Terminal.printable(request.address))'s")
    Terminal.note("device: \(request.device)\ncomparison code: \(request.comparisonCode)")
    if !yes, !(try Terminal.confirm("does the new device show the same code? [y/N] ")) {
      throw CommandFailure(.refused, name: "not-confirmed", "nothing was approved")
    }
    try await common.withClient { client in
      let approval = try await client.approveDevice(text)
      if let out { try writeDeviceFile(approval.text, to: out) }
      if common.json { return try Terminal.write(jsonLine(DeviceApprovalForm(approval, file: out))) }
      Terminal.note("approved; device list: version \(approval.deviceListVersion)")
      Terminal.note("next: `engram device accept FILE` in the home of the new device")
      try Terminal.write(out.map { "answer: \($0)\n" } ?? approval.text + "\n")
    }
  }
}

struct DeviceAcceptCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "accept",
    abstract: "In the new home: check the answer, and go on as a device of the client.",
    discussion: """
      The answer has to be one to this home's own request, signed by the identity key that the request \
      names; and the node has to say the same. Messages that were sealed before do not come to this device: \
      they are sealed for others.

      Example:
        engram device accept answer.txt --home ~/agents/planner-2
      """)

  @Argument(
    help: ArgumentHelp("What `engram device approve` wrote.", valueName: "file"), completion: .file())
  var file: String

  @OptionGroup var common: CommonOptions

  func run() async throws {
    let text = try readDeviceFile(file)
    let home = common.homePath
    let passphrase =
      try EngramClient.needsPassphrase(home: home)
      ? Passphrase(file: common.passphraseFile).existing() : nil
    let client = try await EngramClient.acceptDevice(home: home, answer: text, passphrase: passphrase)
    let account = client.whoami()
    await client.close()
    try Terminal.write(
      common.json
        ? jsonLine(AccountForm(account))
        : "this home is device \(account.device) of \(account.address)\nhome: \(account.home)\n")
  }
}

struct DeviceListCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "list",
    abstract: "Show the devices of this client.",
    discussion: """
      Example:
        engram device list --json
      """)

  @OptionGroup var common: CommonOptions

  func run() async throws {
    try await common.withClient { client in
      let devices = try await client.devices()
      try show(devices, json: common.json)
    }
  }
}

struct DeviceRevokeCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "revoke",
    abstract: "Where the identity key is: take a device out of this client for good.",
    discussion: """
      Its node ends its sessions at once, and what waits for it ends as failed. Others stop sealing for it \
      within minutes. What it has received it keeps: change what it could know.

      Example:
        engram device revoke 0f1e2d3c4b5a69788796a5b4c3d2e1f0
      """)

  @Argument(help: ArgumentHelp("The device, as `engram device list` names it.", valueName: "kid"))
  var kid: String

  @Flag(help: "Do not ask.")
  var yes = false

  @OptionGroup var common: CommonOptions

  func run() async throws {
    if !yes, !(try Terminal.confirm("revoke device \(Terminal.printable(kid)) for good? [y/N] ")) {
      throw CommandFailure(.refused, name: "not-confirmed", "nothing was revoked")
    }
    try await common.withClient { client in
      try show(try await client.revokeDevice(kid), json: common.json)
    }
  }
}

private func show(_ devices: ClientDevices, json: Bool) throws {
  guard !json else {
    return try Terminal.write(devices.devices.map { try jsonLine(DeviceForm($0, devices)) }.joined())
  }
  var text = "address: \(devices.address)\nidentity key: \(devices.identityKey)\n"
  text += "it is in \(Terminal.printable(devices.identityHome))\n"
  text += "device list: version \(devices.listVersion), until \(timeText(devices.listValidUntilMs))\n"
  for device in devices.devices {
    text += "\(device.device)  \(device.state.rawValue) since \(timeText(device.sinceMs))"
    if device.isThis { text += "  this home" }
    if device.holdsIdentity { text += "  identity key" }
    if device.state == .active, device.prekeyNotAfterMs == nil { text += "  offers no prekey" }
    text += "\n"
  }
  try Terminal.write(text)
}

struct DeviceForm: Encodable {
  let device: String
  let state: String
  let sinceMs: UInt64
  let this: Bool
  let holdsIdentity: Bool
  let prekeyNotAfterMs: UInt64?
  let listVersion: UInt64
  let listValidUntilMs: UInt64

  init(_ device: ClientDevice, _ devices: ClientDevices) {
    (self.device, state, sinceMs) = (device.device, device.state.rawValue, device.sinceMs)
    (this, holdsIdentity) = (device.isThis, device.holdsIdentity)
    prekeyNotAfterMs = device.prekeyNotAfterMs
    (listVersion, listValidUntilMs) = (devices.listVersion, devices.listValidUntilMs)
  }
}

struct DeviceRequestForm: Encodable {
  let address: String
  let device: String
  let nodeID: String
  let comparisonCode: String
  let createdMs: UInt64
  /// Where `--out` wrote it; then it is not repeated here.
  let file: String?
  let request: String?

  init(_ request: DeviceRequestInfo, file: String?) {
    (address, device, nodeID) = (request.address, request.device, request.nodeID)
    (comparisonCode, createdMs, self.file) = (request.comparisonCode, request.createdMs, file)
    self.request = file == nil ? request.text : nil
  }
}

struct DeviceApprovalForm: Encodable {
  let address: String
  let device: String
  let comparisonCode: String
  let listVersion: UInt64
  let file: String?
  let answer: String?

  init(_ approval: DeviceApproval, file: String?) {
    (address, device) = (approval.request.address, approval.request.device)
    (comparisonCode, listVersion) = (approval.request.comparisonCode, approval.deviceListVersion)
    (self.file, answer) = (file, file == nil ? approval.text : nil)
  }
}

/// Requests and answers are a few kilobytes at most.
private let deviceFileBytesMax = 64 << 10

private func readDeviceFile(_ path: String) throws -> String {
  guard let handle = FileHandle(forReadingAtPath: path),
    let data = try? handle.read(upToCount: deviceFileBytesMax)
  else {
    throw CommandFailure(.usage, name: "file", "\(path) cannot be read")
  }
  return String(decoding: data, as: UTF8.self)
}

private func writeDeviceFile(_ text: String, to path: String) throws {
  do {
    try Data((text + "\n").utf8).write(to: URL(fileURLWithPath: path), options: .atomic)
  } catch {
    throw CommandFailure(
      .failed, name: "file", "\(path) cannot be written",
      hint: "nothing is lost: the same command gives the same again")
  }
}

extension Terminal {
  /// Asks a person; without one, `--yes` is the answer.
  static func confirm(_ question: String) throws -> Bool {
    FileHandle.standardError.write(Data(question.utf8))
    guard let line = readLine(strippingNewline: true) else {
      note("")
      throw CommandFailure(
        .usage, name: "no-terminal", "there is nobody to ask", hint: "give --yes if it was compared already")
    }
    return ["y", "yes"].contains(line.lowercased())
  }
}
