import Delivery

/// By what way workers get their tasks.
struct QueueSettings: Sendable {
    private enum Way: String, CaseIterable { case postgres, sqs }

    struct SQS: Sendable {
        var place: SQSPlace
        /// Seconds after which a task whose message nobody has brought is sent again.
        var window: Int
    }

    /// Nil: from Postgres itself.
    var sqs: SQS?

    static let names: Set<String> = ["CARILLON_QUEUE", "CARILLON_SQS_URL", "CARILLON_SQS_RESEND_SECONDS"]

    init(_ settings: Settings) throws {
        let window = try settings.number("CARILLON_SQS_RESEND_SECONDS", default: 300, in: 5...43_200)
        switch try settings.choice("CARILLON_QUEUE", default: Way.postgres) {
        case .postgres: break
        case .sqs:
            let credentials = AWSCredentials(
                accessKeyID: try settings.required("CARILLON_AWS_ACCESS_KEY_ID"), secretAccessKey: try settings.required("CARILLON_AWS_SECRET_ACCESS_KEY"),
                sessionToken: try settings.text("CARILLON_AWS_SESSION_TOKEN"))
            let (region, url) = (try settings.required("CARILLON_AWS_REGION"), try settings.required("CARILLON_SQS_URL"))
            self.sqs = SQS(
                place: try named("CARILLON_SQS_URL") { try SQSPlace(credentials: credentials, region: region, prefix: url) },
                window: window)
        }
    }
}
