//! Lists of containers.

use gantry_api::containerd::containers::{Container, ListContainersRequest};
use tonic::{Code, Status};

use crate::{Bed, any, assert_refused, container, of};

fn request(filters: &[&str]) -> ListContainersRequest {
    ListContainersRequest { filters: filters.iter().map(|filter| (*filter).to_owned()).collect() }
}

fn ids(containers: Vec<Container>) -> Vec<String> {
    containers.into_iter().map(|container| container.id).collect()
}

/// The same list in both ways.
async fn list(bed: &Bed, filters: &[&str]) -> Result<Vec<String>, Status> {
    let listed = bed.containers().list(of("ns", request(filters))).await;
    let streamed = streamed(bed, filters).await;
    match listed {
        Ok(listed) => {
            let listed = listed.into_inner().containers;
            assert_eq!(streamed.unwrap(), listed);
            Ok(ids(listed))
        }
        Err(error) => {
            let other = streamed.unwrap_err();
            assert_eq!((other.code(), other.message()), (error.code(), error.message()));
            Err(error)
        }
    }
}

async fn streamed(bed: &Bed, filters: &[&str]) -> Result<Vec<Container>, Status> {
    let request = of("ns", request(filters));
    let mut stream = bed.containers().list_stream(request).await?.into_inner();
    let mut containers = Vec::new();
    while let Some(message) = stream.message().await? {
        containers.push(message.container.unwrap());
    }
    Ok(containers)
}

#[tokio::test]
async fn filters_say_which_are_listed() {
    let Some(bed) = Bed::start().await else { return };
    for (id, image, label) in [("b", "busybox", "1"), ("a", "busybox", "2"), ("c", "alpine", "1")] {
        let mut given = container(id);
        given.image = image.to_owned();
        given.labels.insert("io.x/n".to_owned(), label.to_owned());
        bed.create("ns", given).await.unwrap();
    }
    bed.create("other", container("z")).await.unwrap();
    for (filters, expected) in [
        (&[][..], &["a", "b", "c"][..]),
        (&[""], &["a", "b", "c"]),
        (&["id==b"], &["b"]),
        (&["image==busybox, labels.\"io.x/n\"==1"], &["b"]),
        (&["image~=|^alp|", "id==a"], &["a", "c"]),
        (&["runtime.name==io.containerd.runc.v2,id!=a"], &["b", "c"]),
        (&["labels.none"], &[]),
        (&["id==z"], &[]),
    ] {
        assert_eq!(list(&bed, filters).await.unwrap(), expected, "{filters:?}");
    }
    let error = list(&bed, &["id=="]).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert!(error.message().ends_with(": invalid argument"), "{error:?}");
    let unknown = bed.containers().list(of("nobody", request(&[]))).await.unwrap();
    assert_eq!(unknown.into_inner().containers, []);
    bed.server.finish().await;
}

/// More than one message may have, and more than one page of the store.
#[tokio::test]
async fn a_stream_has_no_limit() {
    let Some(bed) = Bed::start().await else { return };
    let mut expected = Vec::new();
    for number in 0..18 {
        let mut given = container(&format!("c{number:02}"));
        given.spec = Some(any("s", &vec![b'x'; 1 << 20]));
        expected.push(bed.create("ns", given).await.unwrap());
    }
    assert_eq!(streamed(&bed, &[]).await.unwrap(), expected);
    let too_large = bed.containers().list(of("ns", request(&[]))).await;
    let words = "the list has more than 16777216 bytes; ListStream has no limit";
    assert_refused(too_large, Code::ResourceExhausted, words);
    // A reader that goes away in the middle leaves nothing behind.
    for _ in 0..5 {
        let stream = bed.containers().list_stream(of("ns", request(&[]))).await.unwrap();
        assert!(stream.into_inner().message().await.unwrap().is_some());
    }
    assert_eq!(list(&bed, &["id==c07"]).await.unwrap(), ["c07"]);
    bed.server.finish().await;
}
