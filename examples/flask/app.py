"""A Flask app as it is."""

from flask import Flask, jsonify, request

app = Flask(__name__)
notes = {}


@app.get("/")
def index():
    return "Flask on fn\n"


@app.put("/notes/<name>")
def put(name):
    notes[name] = request.get_json()["text"]
    return jsonify(name=name, text=notes[name]), 201


@app.get("/notes/<name>")
def get(name):
    if name not in notes:
        return jsonify(error=f"there is no note {name}"), 404
    return jsonify(name=name, text=notes[name])
