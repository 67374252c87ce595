//! A name server in this process: answers over UDP as it is told, and remembers what it was asked.

use hickory_resolver::proto::op::{Message, MessageType, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA, SOA, SRV};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::net::UdpSocket;

/// What is known of one name.
#[derive(Clone, Debug)]
pub enum Known {
    /// These records, each with this TTL in seconds.
    Records(u32, Vec<RData>),
    /// Nothing is ever answered.
    Silence,
    /// SERVFAIL.
    Failure,
}

#[derive(Default)]
struct Book {
    known: BTreeMap<String, Known>,
    asked: Vec<(String, RecordType)>,
}

/// The server; ends with the runtime.
#[derive(Clone)]
pub struct Names {
    book: Arc<Mutex<Book>>,
    /// Where it is.
    pub at: SocketAddr,
}

/// The TTL that the zones' SOA gives to "no such name": a day.
const NEGATIVE: u32 = 86_400;

pub fn srv(priority: u16, weight: u16, port: u16, target: &str) -> RData {
    RData::SRV(SRV::new(priority, weight, port, Name::from_ascii(target).unwrap()))
}

pub fn address(address: &str) -> RData {
    match address.parse().unwrap() {
        IpAddr::V4(v4) => RData::A(A(v4)),
        IpAddr::V6(v6) => RData::AAAA(AAAA(v6)),
    }
}

impl Names {
    pub async fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let names = Self { at: socket.local_addr().unwrap(), book: Arc::default() };
        let server = names.clone();
        tokio::spawn(async move {
            let mut buffer = [0; 4_096];
            while let Ok((n, from)) = socket.recv_from(&mut buffer).await {
                let Some(answer) = Message::from_vec(&buffer[..n]).ok().and_then(|query| server.answer(&query)) else {
                    continue;
                };
                let _ = socket.send_to(&answer.to_vec().unwrap(), from).await;
            }
        });
        names
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap()
    }

    /// From now on this is known of a name.
    pub fn put(&self, name: &str, known: Known) -> &Self {
        self.book().known.insert(name.to_owned(), known);
        self
    }

    /// The usual: records for a minute.
    pub fn records(&self, name: &str, records: Vec<RData>) -> &Self {
        self.put(name, Known::Records(60, records))
    }

    /// How often it was asked this.
    pub fn asked(&self, name: &str, record_type: RecordType) -> usize {
        self.book().asked.iter().filter(|(asked, of)| asked == name && *of == record_type).count()
    }

    fn answer(&self, query: &Message) -> Option<Message> {
        let question = query.queries.first()?;
        let name = question.name().to_ascii().trim_end_matches('.').to_ascii_lowercase();
        let mut book = self.book();
        book.asked.push((name.clone(), question.query_type()));
        let mut answer = Message::response(query.metadata.id, query.metadata.op_code);
        answer.metadata.message_type = MessageType::Response;
        answer.metadata.recursion_desired = query.metadata.recursion_desired;
        answer.metadata.recursion_available = true;
        answer.add_query(question.clone());
        let mut negative = |code| {
            answer.metadata.response_code = code;
            let zone = Name::from_ascii("example.").unwrap();
            let soa = SOA::new(zone.clone(), zone.clone(), 1, 3_600, 3_600, 3_600, NEGATIVE);
            answer.add_authority(Record::from_rdata(zone, NEGATIVE, RData::SOA(soa)));
        };
        match book.known.get(&name) {
            None => negative(ResponseCode::NXDomain),
            Some(Known::Silence) => return None,
            Some(Known::Failure) => answer.metadata.response_code = ResponseCode::ServFail,
            Some(Known::Records(ttl, records)) => {
                let fitting: Vec<&RData> =
                    records.iter().filter(|data| data.record_type() == question.query_type()).collect();
                if fitting.is_empty() {
                    negative(ResponseCode::NoError);
                }
                for data in fitting {
                    answer.add_answer(Record::from_rdata(question.name().clone(), *ttl, data.clone()));
                }
            }
        }
        Some(answer)
    }
}
