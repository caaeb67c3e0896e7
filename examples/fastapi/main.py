"""A FastAPI app as it is: checked input, and an OpenAPI document for nothing."""

from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI(title="orders")


class Order(BaseModel):
    item: str
    count: int = 1


@app.get("/")
async def index():
    return {"framework": "FastAPI"}


@app.post("/orders", status_code=201)
async def order(order: Order):
    return {"ordered": f"{order.count} × {order.item}"}
