import contextlib
import http.client
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from helpers.browser import chromium, requested
from PIL import Image

from mnist_jax.cli import commands as cli
from mnist_jax.data.arrays import CLASS_NAMES
from mnist_jax.lessons import DIGITS
from mnist_jax.nets.images import png, read_digit
from mnist_jax.nets.trained import probabilities, read_nets
from mnist_jax.views.demo import Server
from mnist_jax.views.languages import WORDS

# Strokes on a field of 280 x 280.
DRAWN = {
    1: [[(150, 45), (135, 240)]],
    0: [[(140, 45), (95, 70), (75, 140), (95, 210), (140, 235), (185, 210), (205, 140), (185, 70), (140, 45)]],
    7: [[(70, 60), (205, 60), (120, 240)]],
}


@contextlib.contextmanager
def serving(run, classes=DIGITS):
    with Server(read_nets(run), classes, 0, "<run> of a test") as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def server(digits_run):
    with serving(digits_run) as server:
        yield server


def asked(server, method, path, body=None, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)
    with contextlib.closing(connection):
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        reply = connection.getresponse()
        return reply.status, reply.headers, reply.read()


def test_demo_page_is_complete_and_self_contained(server):
    status, headers, page = asked(server, "GET", "/")
    assert status == 200
    text = page.decode()
    assert 'id="mlp"' in text
    assert 'id="adam"' in text
    assert "Nets of &lt;run&gt; of a test." in text
    assert "http" not in text.replace('<meta http-equiv="', "")
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "connect-src 'self'" in policy
    assert "unsafe" not in policy


def test_demo_shows_the_names_of_classes(digits_run):
    names = ("<b>", *CLASS_NAMES["Fashion-MNIST"][1:])
    with serving(digits_run, names) as server:
        page = asked(server, "GET", "/")[2].decode()
    shown = re.findall(r'<div class="bar"><span>(.*?)</span>', page)
    assert shown == ["&lt;b&gt;", *names[1:]] * (len(shown) // 10)
    assert "grid-template-columns: 10ch" in page


def test_drawing_returns_probabilities_of_each_lesson(server, digits_run):
    drawing = np.full((280, 280), 255, np.uint8)
    drawing[50:230, 130:150] = 0
    status, _, reply = asked(server, "POST", "/predict", png(drawing), Origin=server.url.rstrip("/"))
    answer = json.loads(reply)
    assert status == 200
    for net in read_nets(digits_run):
        expected = probabilities(net, read_digit(png(drawing))[None])[0]
        np.testing.assert_allclose(answer["lessons"][net.lesson_id], expected, rtol=1e-5, atol=1e-7)
    assert answer["image"].startswith("data:image/png;base64,")


@pytest.mark.parametrize("picture", [b"", b"no picture", png(np.zeros((9, 9), np.uint8))])
def test_upload_without_digit_is_refused(server, picture):
    status, _, reply = asked(server, "POST", "/predict", picture)
    assert status == 422
    assert json.loads(reply)["error"].endswith(".")


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/other", {}, 404),
        ("GET", "/../README.md", {}, 404),
        ("POST", "/", {}, 404),
        ("GET", "/", {"Host": "elsewhere.example"}, 404),  # a name that was made to point to loopback
        ("POST", "/predict", {"Origin": "http://elsewhere.example"}, 404),  # another page in the same browser
        ("POST", "/predict", {"Origin": "null"}, 404),
        ("POST", "/predict", {"Content_Length": "999999999"}, 413),
        ("POST", "/predict", {"Content_Length": "9" * 5000}, 411),
        ("POST", "/predict", {"Content_Length": "-1"}, 411),
        ("PUT", "/predict", {}, 501),
    ],
)
def test_unexpected_requests_are_refused(server, method, path, headers, status):
    assert asked(server, method, path, **headers)[0] == status


@pytest.mark.parametrize(("method", "path"), [("GET", "/"), ("POST", "/predict")])
@pytest.mark.parametrize("host", ["localhost:1", "localhost", "machine.example:8000", ""])
def test_request_to_another_address_lists_valid_ones(server, method, path, host):
    """As through a port that is forwarded from another one."""
    status, _, reply = asked(server, method, path, b"x" if method == "POST" else None, Host=host)
    port, said = server.server_port, json.loads(reply)["error"]
    assert status == 404
    assert f"Only {method} {path} at 127.0.0.1:{port} or localhost:{port} is answered" in said
    assert f"ssh -L {port}:localhost:{port}" in said


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("GET", "/favicon.ico", {}),  # as browsers ask by themselves
        ("POST", "/other", {}),
        ("GET", "/", {"Origin": "http://elsewhere.example"}),
    ],
)
def test_refusal_at_the_right_address_does_not_suggest_forwarding(server, method, path, headers):
    status, _, reply = asked(server, method, path, b"x" if method == "POST" else None, **headers)
    said = json.loads(reply)["error"]
    assert status == 404
    assert said.startswith(f"Only {method} /")
    assert said.endswith("is answered.")


def test_forwarded_port_of_the_same_number_is_answered(server):
    assert asked(server, "GET", "/", Host=f"localhost:{server.server_port}")[0] == 200


def test_oversized_upload_is_refused(server):
    status, _, reply = asked(server, "POST", "/predict", bytes(21_000_000))
    assert status == 413
    assert "20,000,000 bytes" in json.loads(reply)["error"]


def test_disconnecting_client_does_not_stop_the_server(server, capfd):
    for _ in range(3):
        connection = http.client.HTTPConnection("127.0.0.1", server.server_port)
        connection.request("POST", "/predict", b"x", {"Content-Length": "1000"})
        connection.close()
    assert asked(server, "GET", "/")[0] == 200
    time.sleep(0.2)
    assert "Traceback" not in capfd.readouterr().err


def test_concurrent_requests_agree(server):
    found = []
    drawing = np.full((50, 50), 255, np.uint8)
    drawing[10:40, 20:25] = 0
    threads = [
        threading.Thread(target=lambda: found.append(asked(server, "POST", "/predict", png(drawing))[2]))
        for _ in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 12
    assert len(set(found)) == 1


@pytest.mark.parametrize("port", [None, 70000, -1])
def test_unavailable_port_is_reported(server, digits_run, run_main, port):
    status, _, err = run_main(cli.main, "demo", digits_run, "--port", port or server.server_port)
    assert status == 2
    assert "--port" in err
    assert err.count("\n") == 1


def test_demo_prints_its_address_and_ends_on_ctrl_c(toy_ladder):
    command = [sys.executable, "-m", "mnist_jax", "demo", toy_ladder, "--port", "0"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stdout.readline().startswith("Open http://127.0.0.1:")
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=20)[1] == ""
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 0


def draw(driver, strokes):
    from selenium.webdriver.common.action_chains import ActionChains

    canvas = driver.find_element("id", "canvas")
    scale = canvas.size["width"] / 280
    pen = ActionChains(driver, duration=20)

    def move(x, y):
        pen.move_to_element_with_offset(canvas, round((x - 140) * scale), round((y - 140) * scale))

    for start, *rest in strokes:
        move(*start)
        pen.click_and_hold()
        for point in rest:
            move(*point)
        pen.release()
    pen.perform()


def answers(driver):
    return {
        lesson.get_attribute("id"): lesson.find_element("class name", "answer").text
        for lesson in driver.find_elements("class name", "lesson")
    }


def wait_until(true, seconds=20):
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.05)
    assert true()


@pytest.mark.slow
def test_drawn_digits_are_recognised(server, tmp_path):
    with chromium() as driver:
        driver.get(server.url)
        for digit, strokes in DRAWN.items():
            driver.find_element("id", "clear").click()
            assert set(answers(driver).values()) == {""}
            draw(driver, strokes)
            wait_until(lambda: f"adam: {digit}" in driver.find_element("id", "heard").text)  # noqa: B023
            assert answers(driver)["adam"] == str(digit)
            bars = driver.find_elements("css selector", "#adam .bar b")
            assert sum(int(bar.text.rstrip("%")) for bar in bars) == pytest.approx(100, abs=5)
        picture = tmp_path / "picture.png"
        Image.fromarray(np.uint8(255 - 200 * np.eye(60))).save(picture)
        driver.find_element("id", "file").send_keys(str(picture))
        wait_until(lambda: answers(driver)["adam"] != "")
        picture.write_bytes(b"no picture")
        driver.find_element("id", "file").send_keys(str(picture))
        wait_until(lambda: "not a PNG or JPEG" in driver.find_element("id", "message").text)
        assert [entry for entry in driver.get_log("browser") if "422" not in entry["message"]] == []
        assert {url for url in requested(driver) if not url.startswith("data:")} == {server.url, f"{server.url}predict"}
        shot = np.asarray(Image.open(io.BytesIO(driver.get_screenshot_as_png())).convert("L"))
        assert shot.std() > 5


@pytest.mark.slow
def test_demo_fits_a_phone_in_dark_mode(server):
    with chromium(width=390, height=844, dark=True) as driver:
        driver.get(server.url)
        draw(driver, DRAWN[7])
        wait_until(lambda: answers(driver)["adam"] == "7")
        assert driver.execute_script("return document.documentElement.scrollWidth") <= 390
        ground = driver.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert max(map(int, ground.removeprefix("rgb(").rstrip(")").split(","))) < 60


@pytest.mark.slow
def test_demo_page_reports_an_unreachable_server(server):
    with chromium() as driver:
        driver.get(server.url)
        conditions = {"offline": True, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
        driver.execute_cdp_cmd("Network.emulateNetworkConditions", conditions)
        draw(driver, DRAWN[1])
        wait_until(lambda: "no longer running" in driver.find_element("id", "message").text)


def test_korean_page_says_all_in_korean(digits_run):
    with Server(read_nets(digits_run), DIGITS, 0, "run", "ko") as server:
        page = server.page.decode()
    assert '<html lang="ko">' in page
    assert "시드 0, 2에포크 학습" in page
    assert "run 폴더의 신경망입니다." in page
    body = page.split("<body>")[1].split("<script")[0]
    assert [text for text in WORDS["en"].values() if text[:1].isupper() and text in body] == []
